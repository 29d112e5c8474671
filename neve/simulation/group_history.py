"""What group members did and were told, and what of it the database took over: the side structures of the group rules.

A *process* is one life of a member. Every commit carries a mark of its own in its metadata, so that what OffsetFetch
answers and what lands in the database names the commit it comes from. Times are virtual seconds.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import NamedTuple

Key = tuple[str, int]
UNKNOWN = -1
"""Error of a commit that was never answered, or only in part."""


class Synced(NamedTuple):
    """An assignment as SyncGroup answered it. `owner` is the instance id of a static member, else the member id."""

    time: float
    group: str
    generation: int
    owner: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Commit:
    """One OffsetCommit request. `answered` and `error` are `UNKNOWN` as long as there is no answer."""

    mark: str
    group: str
    process: str
    generation: int
    sent: float
    offsets: tuple[tuple[Key, int], ...]
    answered: float = UNKNOWN
    error: int = UNKNOWN


class Committed(NamedTuple):
    """One partition of an OffsetFetch answer; -1 and no mark where nothing is committed."""

    sent: float
    answered: float
    group: str
    key: Key
    offset: int
    mark: str


class Landed(NamedTuple):
    """A committed offset as it was written to the database, in the order of the writes; `ms` is virtual time, rounded down."""

    ms: int
    group: str
    key: Key
    offset: int
    mark: str


class Settling(NamedTuple):
    """How long a group took to settle once faults and writes had ended; `seconds` beyond `bound` means that it never did."""

    group: str
    seconds: float
    bound: float
    state: str


@dataclass
class GroupHistory:
    """The record of all groups of one run."""

    synced: list[Synced] = field(default_factory=list)
    commits: dict[str, Commit] = field(default_factory=dict)
    """By mark, in the order they were sent."""
    committed: list[Committed] = field(default_factory=list)
    landed: list[Landed] = field(default_factory=list)
    settlings: list[Settling] = field(default_factory=list)
    landings_known: bool = True
    """Whether `landed` is all that was written; False where nobody looked into the database."""

    def copied(self) -> GroupHistory:
        """A copy whose lists may be changed."""
        return GroupHistory(*(copy.copy(getattr(self, name)) for name in self.__dataclass_fields__))


def metadata_of(mark: str, generation: int, agent: str) -> str:
    """The metadata of a commit; the database's watches read it (`$.g`, `$.a`)."""
    return json.dumps({"m": mark, "g": generation, "a": agent}, separators=(",", ":"))


def mark_of(metadata: str) -> str:
    """The mark in it; empty where there is none."""
    return str(json.loads(metadata)["m"]) if metadata else ""
