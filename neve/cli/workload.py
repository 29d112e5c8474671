"""`neve workload`: writers and readers against a running cluster, judged by the simulation's checker."""

from __future__ import annotations

import typer

from neve.cli.output import HTTP_OPTION, fail, print_json, print_table

PROGRESS_S = 5.0


def workload(
    bootstrap: str | None = typer.Option(
        None, "--bootstrap", "-b", help="Any agent's Kafka address; --http's if unset."
    ),
    seconds: float = typer.Option(60.0, "--seconds", "-s", min=1.0, help="How long to write."),
    rate: float = typer.Option(
        1000.0, "--rate", min=1.0, help="Records a second; a writer's share of it goes to the group's topic besides."
    ),
    writers: int = typer.Option(4, "--writers", min=1, help="Idempotent producers."),
    readers: int = typer.Option(2, "--readers", min=1, help="Consumers that each read everything."),
    members: int = typer.Option(3, "--members", min=0, help="Members of a group on a topic of its own; 0 without."),
    partitions: int = typer.Option(4, "--partitions", "-p", min=1, help="Partitions of each topic."),
    value_bytes: int = typer.Option(100, "--value-bytes", min=1, help="Longest padding of a value."),
    settle: float = typer.Option(
        60.0, "--settle", min=1.0, help="Everything must be read so many seconds after the writers paused."
    ),
    round_seconds: float = typer.Option(
        15.0, "--round", min=1.0, help="Pause, judge and forget every so many seconds."
    ),
    spike: float = typer.Option(1.0, "--spike", min=1.0, help="So many times the load, once."),
    spike_at: float = typer.Option(10.0, "--spike-at", min=0.0, help="Seconds after the start."),
    spike_for: float = typer.Option(30.0, "--spike-for", min=1.0, help="Length of the spike in seconds."),
    audit: bool = typer.Option(True, "--audit/--no-audit", help="Read everything once more at the end."),
    keep_topics: bool = typer.Option(False, "--keep-topics", help="Keep the topics also where nothing was found."),
    seed: int | None = typer.Option(None, "--seed", help="Of the clients' choices."),
    json: bool = typer.Option(False, "--json", help="The outcome as one JSON document."),
    http: str = HTTP_OPTION,
) -> None:
    """Write, read and judge against a running cluster: nothing acknowledged lost, doubled, reordered, skipped or invented.

    Exit 1 with the findings where a promise was broken. Ctrl-C ends the writing and judges what was done.
    """
    import asyncio
    import random
    import signal
    from dataclasses import asdict

    from neve.cli.running import kafka_address
    from neve.kafka_client import KafkaClientError
    from neve.workload.plan import Outcome, WorkloadPlan
    from neve.workload.run import Workload

    chosen = random.SystemRandom().getrandbits(31) if seed is None else seed
    plan = WorkloadPlan(
        bootstrap=bootstrap or kafka_address(http),
        seconds=seconds,
        seed=chosen,
        topic=f"workload-{random.SystemRandom().getrandbits(32):08x}",
        partitions=partitions,
        writers=writers,
        readers=readers,
        members=members,
        rate=rate,
        value_bytes_max=value_bytes,
        round_s=min(round_seconds, seconds),
        settle_s=settle,
        delivery_s=settle,
        spike=spike,
        spike_at_s=spike_at,
        spike_for_s=spike_for,
        audit=audit,
        keep_topics=keep_topics,
    )

    async def run() -> Outcome:
        made = Workload(plan, lambda line: typer.echo(line, err=True))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, made.stop)
        return await made.run(PROGRESS_S)

    try:
        outcome = asyncio.run(run())
    except KafkaClientError as error:
        fail(str(error))
    if json:
        print_json(asdict(outcome))
    else:
        print_table(["rule", "judged"], sorted((rule, count) for rule, count in outcome.judged.items() if count))
        for rule, text in outcome.findings:
            typer.echo(f"{rule}: {text}")
        typer.echo(
            f"{outcome.acked} records acknowledged in {outcome.seconds:.0f} s, {outcome.read} read, {outcome.consumed} by the "
            f"group, {outcome.audited} once more at the end, {outcome.given_up} of unknown outcome, {outcome.rounds} rounds, "
            f"{outcome.agents_seen} agents, seed {outcome.seed}: "
            + (
                f"{len(outcome.findings)} findings; topic {outcome.topic} is kept"
                if outcome.findings
                else "nothing found"
            )
        )
    if outcome.findings:
        raise typer.Exit(1)
