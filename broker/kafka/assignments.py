"""Manual replica assignments: which are well formed. Pure.

Where copies lie is the object store's affair, so any broker ids are taken; the form is held to Kafka's rules, in its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class InvalidAssignment(ValueError):
    """An assignment that no cluster could make."""


def check_replicas(replicas: Sequence[int], copies: int | None) -> int:
    """Check one partition's brokers; the number of them. `copies`: that of the partitions before."""
    if not replicas:
        raise InvalidAssignment("The manual partition assignment includes an empty replica list.")
    for at, broker in enumerate(ordered := sorted(replicas)):
        if at and ordered[at - 1] == broker:
            raise InvalidAssignment(f"The manual partition assignment includes the broker {broker} more than once.")
    if copies is not None and copies != len(replicas):
        raise InvalidAssignment(
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is not "
            f"consistent with previous partitions, which have {copies} replica(s)."
        )
    return len(replicas)


def check_all(assignments: Iterable[tuple[int, Sequence[int]]]) -> int:
    """Check (partition, brokers) of a new topic; the number of partitions."""
    seen: set[int] = set()
    copies: int | None = None
    for partition, replicas in assignments:
        if partition in seen:
            raise InvalidAssignment(f"Found multiple manual partition assignments for partition {partition}")
        copies = check_replicas(replicas, copies)
        seen.add(partition)
    if seen != set(range(len(seen))):
        raise InvalidAssignment("partitions should be a consecutive 0-based integer sequence")
    return len(seen)


def check_added(assignments: Sequence[Sequence[int]], added: int) -> None:
    """Check the brokers of partitions that are added to a topic."""
    if len(assignments) != added:
        raise InvalidAssignment(
            f"Attempted to add {added} additional partition(s), but only {len(assignments)} assignment(s) were specified."
        )
    copies: int | None = None
    for replicas in assignments:
        copies = check_replicas(replicas, copies)
