"""What the demo prints: addresses, progress, the comparison, an answer a person enjoys, and three next commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neve.cli.output import console, print_table

if TYPE_CHECKING:
    from pyarrow import Table

QUESTION = "Whose planes carried New York in 2013, and how late were they?"
ANSWER_SQL = """
SELECT p.manufacturer,
       count(*) AS flights,
       count(DISTINCT p.tailnum) AS planes,
       round(avg(f.arr_delay), 1) AS "minutes late",
       round(100.0 * avg((f.arr_delay > 30)::int), 1) AS "% over 30 min",
       round(sum(f.distance) / 238855.0, 1) AS "trips to the moon"
FROM topics.flights f JOIN topics.planes p USING (tailnum)
GROUP BY p.manufacturer ORDER BY flights DESC LIMIT 7
""".strip()


class Show:
    """Progress on stderr (a terminal only), results on stdout; silent where `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar; yields a function that takes the count so far."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        err = console(stderr=True)
        columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.update(task, completed=count)

    def addresses(self, rows: list[tuple[str, str]]) -> None:
        """Where everything listens."""
        if not self._quiet:
            print_table(["what", "where"], rows, title="Neve is up")
            print(flush=True)

    def comparison(self, rows: list[tuple[str, int, int, int, str]]) -> None:
        """Produced, consumed and table rows, topic by topic."""
        if not self._quiet:
            print_table(
                ["topic", "produced", "consumed", "table rows", "equal"],
                rows,
                title="Every record, three times counted",
            )
            print()

    def answer(self, table: Table) -> None:
        """The SQL answer."""
        if not self._quiet:
            rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
            print_table(table.column_names, rows, title=QUESTION)
            print()

    def next_steps(self, kafka: str, http: str, keep: bool) -> None:
        """Three commands to go on with."""
        if self._quiet:
            return
        if keep:
            head = "The system is still up; Ctrl-C ends it. Next:"
        else:
            head = "`make demo ARGS=--keep` leaves it serving. Then:"
        print(head)
        print(f"  kcat -b {kafka} -C -t flights -o beginning -c 3")
        print(f'  .venv/bin/neve query --http {http} "SELECT origin, count(*) FROM topics.flights GROUP BY 1"')
        print(f"  .venv/bin/neve verify --http {http} flights", flush=True)


def as_json(result: dict[str, Any]) -> str:
    """The last line of `--json`."""
    import json

    return json.dumps(result)
