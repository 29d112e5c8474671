"""`neve demo`: the whole system, real data, one command."""

from __future__ import annotations

import signal
import sys

import typer

from neve.cli.output import fail


def demo(
    json: bool = typer.Option(False, "--json", help="Only one line of JSON with the counts, at the end."),
    keep: bool = typer.Option(False, "--keep", help="Leave the system serving until Ctrl-C."),
    rows: int = typer.Option(336_776, "--rows", min=1, max=336_776, help="How many flights to replay."),
) -> None:
    """Replay the flights of 2013 through a real Kafka client, wait for the tables, compare, and ask them in SQL."""
    from neve.demo.client import DemoFailed
    from neve.demo.flights import DataMissing
    from neve.demo.run import clean, demo_folder, run_demo

    # ended from outside, it still ends its agent and removes its folder
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))
    folder = demo_folder(keep)
    try:
        result = run_demo(folder, rows, keep, json)
    except (DemoFailed, DataMissing) as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        fail(f"the demo needs the package {error.name}: pip install 'neve[demo,lake]'")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        clean(folder)
    if not result["ok"]:
        fail("the counts differ: see the comparison above")
