"""`neve simulate`: the whole system under seeds, with faults, judged by the checker."""

from __future__ import annotations

import typer


def simulate(
    seed: int = typer.Option(1, "--seed", help="First seed."),
    seeds: int = typer.Option(1, "--seeds", help="How many seeds, counted up from the first."),
    profile: str = typer.Option("default", "--profile", help="Which mix of faults and load."),
    jobs: int = typer.Option(1, "--jobs", "-j", help="Worker processes."),
    json: bool = typer.Option(False, "--json", help="One JSON line a seed."),
) -> None:
    """Run agents, clients, store and database under virtual time; the same seed gives the same trace. Exit 1 on a finding."""
    from neve.simulation.simulate import run_simulation

    if not run_simulation(seed, seeds, profile=profile, jobs=jobs, as_json=json):
        raise typer.Exit(1)
