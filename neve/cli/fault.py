"""`neve fault`: faults on purpose in a running staging system."""

from __future__ import annotations

import typer

from neve.cli.output import HTTP_OPTION, OUTPUT_OPTION, Output, fail, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Faults on purpose: add, list, remove, points. Refused in production.")


@app.command(short_help="Let a fault strike on every agent of the cluster.")
def add(
    point: str = typer.Argument(..., help="Which fault; `neve fault points` lists them."),
    rate: float = typer.Option(1.0, "--rate", help="Chance of each call that the pattern fits, above 0 up to 1."),
    pattern: str = typer.Option("*", "--pattern", help="On what: object keys, operations, or API and client address."),
    delay_ms: int = typer.Option(1000, "--delay-ms", help="Longest delay of the faults that have one."),
    seconds: float | None = typer.Option(None, "--for", help="Ends by itself after so many seconds."),
    times: int | None = typer.Option(None, "--times", help="At most so often, on each agent."),
    http: str = HTTP_OPTION,
) -> None:
    """Set a fault. It holds on the agent asked at once and on the others within `fault_poll_interval_ms`."""
    from neve.cli.running import send_json

    body = {"point": point, "rate": rate, "pattern": pattern, "delay_ms": delay_ms, "times": times}
    body["for_ms"] = None if seconds is None else round(seconds * 1000)
    typer.echo(f"fault {send_json(http, 'POST', '/v1/faults', body)['fault']}: {point}")


@app.command("list", short_help="Faults that are set.")
def list_faults(output: Output = OUTPUT_OPTION, http: str = HTTP_OPTION) -> None:
    """Faults that are set, with how often each has struck on the agent asked."""
    from neve.cli.running import get_json

    rows = get_json(http, "/v1/faults")
    if output is Output.json:
        print_json(rows)
        return
    columns = ["fault", "point", "rate", "pattern", "delay_ms", "times", "left_ms", "fired_here"]
    print_table([column.replace("_", " ") for column in columns], [[row[each] for each in columns] for row in rows])


@app.command(short_help="Remove one fault, or all of them.")
def remove(
    fault: int | None = typer.Argument(None, help="Its number."),
    everything: bool = typer.Option(False, "--all", help="All of them."),
    http: str = HTTP_OPTION,
) -> None:
    """Remove a fault; what it has broken meanwhile stays to be repaired by the system."""
    from neve.cli.running import send_json

    if (fault is None) is not everything:
        fail("which one? give its number, or --all", 2)
    removed = send_json(http, "DELETE", f"/v1/faults?fault={'all' if everything else fault}")["removed"]
    if not removed and not everything:
        fail(f"fault {fault} isn't set")
    typer.echo(f"removed {removed} fault{'' if removed == 1 else 's'}")


@app.command(short_help="Every fault there is.")
def points(output: Output = OUTPUT_OPTION) -> None:
    """Every fault there is, where it strikes and what it does."""
    from schemas.fault_points import POINTS

    rows = [{"point": point.name, "place": point.place, "does": point.does} for point in POINTS.values()]
    if output is Output.json:
        print_json(rows)
    else:
        print_table(["point", "place", "what it does"], [list(row.values()) for row in rows])
