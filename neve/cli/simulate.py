"""`neve simulate`: the whole system under seeds, with faults, judged by the checker."""

from __future__ import annotations

import typer

from neve.cli.output import fail


def simulate(
    seed: int = typer.Option(1, "--seed", help="First seed."),
    seeds: int = typer.Option(1, "--seeds", min=1, help="How many seeds, counted up from the first."),
    profile: str = typer.Option("swarm", "--profile", help="Which mix of faults and load."),
    jobs: int = typer.Option(1, "--jobs", "-j", min=1, help="Worker processes."),
    json: bool = typer.Option(False, "--json", help="One JSON line a seed."),
) -> None:
    """Run agents, clients, store and database under virtual time; the same seed gives the same trace. Exit 1 on a finding."""
    from neve.simulation.profiles import PROFILES
    from neve.simulation.report import Reporter
    from neve.simulation.run import simulate as run

    if profile not in PROFILES:
        fail(f"profile {profile!r} doesn't exist; profiles are {', '.join(sorted(PROFILES))}", 2)
    reporter = Reporter(seeds, as_json=json)
    summary = run(seed, seeds, profile, jobs, reporter.result)
    reporter.end(summary)
    if not summary.ok:
        raise typer.Exit(1)
