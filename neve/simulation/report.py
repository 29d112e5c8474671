"""How `neve simulate` speaks: a line per finding with the command that repeats it, and at the end how often what came up."""

from __future__ import annotations

import time

from neve.cli.output import console, print_table
from neve.simulation.run import Result, Summary, json_line, repeat_line

PROGRESS_EVERY = 25


class Reporter:
    """Takes results in order of seeds. JSON: one line a seed and nothing else."""

    def __init__(self, seeds: int, *, as_json: bool) -> None:
        self._seeds = seeds
        self._as_json = as_json
        self._done = 0
        self._started_s = time.monotonic()

    def result(self, result: Result) -> None:
        """One seed ended."""
        self._done += 1
        if self._as_json:
            print(json_line(result), flush=True)
            return
        for rule, text in result.findings:
            print(f"seed {result.seed}: {rule}: {text}")
        if result.findings:
            print(f"  repeat: {repeat_line(result)}", flush=True)
        elif self._seeds == 1:
            print(
                f"seed {result.seed}: {result.acked} records acknowledged, {sum(result.faults.values())} faults, "
                f"{result.steps} steps, trace {result.trace}"
            )
        elif self._done % PROGRESS_EVERY == 0:
            spent_s = time.monotonic() - self._started_s
            console(stderr=True).print(f"{self._done} of {self._seeds} seeds, {spent_s:.0f} s")

    def end(self, summary: Summary) -> None:
        """The totals."""
        if self._as_json:
            return
        if summary.seeds > 1:
            print_table(["fault", "fired"], sorted(summary.faults.items()))
            rules = [(name, count, summary.fired.get(name, "")) for name, count in sorted(summary.judged.items())]
            print_table(["rule", "judged", "found when planted"], rules)
        print(
            f"{summary.seeds} seeds, {summary.steps} steps, {summary.acked} records acknowledged, "
            f"{summary.virtual_s:.0f} virtual seconds in {time.monotonic() - self._started_s:.0f} s, "
            f"{len(summary.failed)} with findings"
        )
        for never in summary.never:
            print(f"never came up: {never}")
