"""Where two answers differ, leaf by leaf, and which row of the table allows it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.parity.broker import Broker, Observations
from tests.parity.cases import Case
from tests.parity.differences import ABSENT, DIFFERENCES, allows


class Found(NamedTuple):
    """One leaf that differs. `where` is `observation: path`."""

    where: str
    kafka: Any
    neve: Any


def leaves(kafka: Any, neve: Any, path: str) -> Iterator[Found]:
    """Each leaf that differs; lists of different length differ as a whole."""
    if isinstance(kafka, dict) and isinstance(neve, dict):
        for key in dict.fromkeys([*kafka, *neve]):
            yield from leaves(kafka.get(key, ABSENT), neve.get(key, ABSENT), f"{path}.{key}")
    elif isinstance(kafka, list) and isinstance(neve, list) and len(kafka) == len(neve):
        for at, (left, right) in enumerate(zip(kafka, neve, strict=True)):
            yield from leaves(left, right, f"{path}.{at}")
    elif kafka != neve or type(kafka) is not type(neve):
        yield Found(path, kafka, neve)


def observe(case: Case, broker: Broker) -> dict[str, Any]:
    """Run a case against one broker."""
    seen: dict[str, Any] = {}
    observations: Observations = case(broker)
    for name, answer in observations:
        assert name not in seen, f"{name} is observed twice"
        seen[name] = answer
    return seen


def both(case: Case, kafka: Broker, neve: Broker) -> list[Found]:
    """Run a case against both at the same time; what differs."""
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(lambda broker: observe(case, broker), (kafka, neve))
    assert theirs.keys() == ours.keys()
    assert theirs, "nothing was observed"
    return [found for name in theirs for found in leaves(theirs[name], ours[name], f"{name}: ")]


def judge(name: str, found: list[Found], used: set[int]) -> list[str]:
    """What is wrong with a case: differences that no row allows, and rows of this case alone that allow nothing (any more).

    Adds the rows that were needed to `used`, by their place in the table.
    """
    wrong: list[str] = []
    table = {at: row for at, row in enumerate(DIFFERENCES) if fnmatchcase(name, row.case)}
    for leaf in found:
        rows = [at for at, row in table.items() if fnmatchcase(leaf.where, row.where)]
        fitting = [at for at in rows if allows(table[at].kafka, leaf.kafka) and allows(table[at].neve, leaf.neve)]
        used.update(fitting)
        if not fitting:
            wrong.append(f"{leaf.where}\n    Kafka: {leaf.kafka!r}\n    Neve:  {leaf.neve!r}")
    stale = [row for at, row in table.items() if row.case == name and at not in used]
    return wrong + [f"no longer so: {row.where} ({row.reason})" for row in stale]
