"""Every fault that can be let strike on purpose: the one table behind the simulation, staging systems and docs/faults.md.

A *point* is where a fault strikes and what it does there. A *rule* arms a point: how often, on what, for how long, how many
times. Values only; who decides is `broker.faults.table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["store", "database", "network"]
SUBJECTS: dict[Place, str] = {
    "store": "the object's key, such as `<cluster id>/segments/7/12-8f…`; of a listing its prefix, of a bulk delete its first key",
    "database": "what the agent is doing, such as `CommitStore.commit` or `ExtentStore.plan`",
    "network": "the API and the client's address, such as `Produce 10.0.3.7`; of hints the channel",
}
"""What a rule's pattern is compared with, by place."""
DELAY_MS = 1_000
PATTERN_MAX = 200
DELAY_MS_MAX = 600_000


class WrongFault(ValueError):
    """A rule that can't be; the message says what it may be."""


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """One place where a fault can strike."""

    name: str
    place: Place
    does: str
    delayed: bool = False
    """Whether a rule's delay means something here."""
    survivable: bool = True
    """False where no system can keep its promise: a fault that a test must find, not one to live with."""


def _store(name: str, does: str, *, delayed: bool = False, survivable: bool = True) -> FaultPoint:
    return FaultPoint(name, "store", does, delayed, survivable)


def _database(name: str, does: str, *, delayed: bool = False) -> FaultPoint:
    return FaultPoint(name, "database", does, delayed)


def _network(name: str, does: str, *, delayed: bool = False) -> FaultPoint:
    return FaultPoint(name, "network", does, delayed)


POINTS: dict[str, FaultPoint] = {
    point.name: point
    for point in (
        _store("put_refused", "A PUT is refused (503) before anything is stored."),
        _store("put_landed_unknown", "A PUT is stored and times out."),
        _store("put_lost_unknown", "A PUT times out and is never stored."),
        _store("put_landed_late", "A PUT times out and is stored up to the delay later.", delayed=True),
        _store("put_torn", "A PUT fails, and a part of it stands under the name."),
        _store("put_slow", "A PUT takes up to the delay longer.", delayed=True),
        _store("put_vanished", "A PUT is answered as stored, and nothing is.", survivable=False),
        _store("get_refused", "A GET or HEAD is refused (503)."),
        _store("get_truncated", "A GET's body ends early, which the client library notices."),
        _store("get_flipped", "A GET returns a body with one bit changed."),
        _store("get_slow", "A GET or HEAD takes up to the delay longer.", delayed=True),
        _store("delete_refused", "A bulk delete is refused (503): nothing is deleted."),
        _store("delete_partial", "A bulk delete deletes and confirms only some of its objects."),
        _store("delete_unconfirmed", "A bulk delete deletes everything and confirms only some."),
        _store("list_refused", "A listing fails before one of its pages."),
        _database("db_refused", "A transaction or a read is refused before it begins."),
        _database("db_reply_lost", "A transaction is committed and its answer is lost."),
        _database("db_request_lost", "A transaction ends without an answer and is not committed."),
        _database(
            "db_landed_late",
            "A transaction ends without an answer and is committed up to the delay later.",
            delayed=True,
        ),
        _database("db_slow", "A transaction or a read takes up to the delay longer.", delayed=True),
        _network("connection_cut", "A client's connection is cut when a request arrives."),
        _network("request_lost", "A request is never answered; its connection is cut after the delay.", delayed=True),
        _network("reply_lost", "A request takes effect and its connection is cut instead of answering."),
        _network("reply_delayed", "Replies leave after the delay.", delayed=True),
        _network("hint_lost", "A hint to other agents is never sent."),
    )
}


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One armed fault."""

    point: str
    rate: float = 1.0
    """Chance of each call that the pattern fits, above 0 up to 1."""
    pattern: str = "*"
    """As file names are matched: `*`, `?`, `[...]`."""
    delay_ms: int = DELAY_MS
    times: int | None = None
    """At most so often, on each agent."""
    number: int = 0
    """Given by the database; 0 for a rule that isn't kept there."""

    def checked(self) -> FaultRule:
        """This rule. Raises WrongFault where it means nothing."""
        if self.point not in POINTS:
            raise WrongFault(f"fault {self.point!r} doesn't exist; faults are {', '.join(POINTS)}")
        if not 0.0 < self.rate <= 1.0:
            raise WrongFault(f"rate {self.rate:g}: want more than 0 and at most 1")
        if not 0 < len(self.pattern) <= PATTERN_MAX:
            raise WrongFault(f"a pattern of {len(self.pattern)} characters: want 1 to {PATTERN_MAX}")
        if not 0 < self.delay_ms <= DELAY_MS_MAX:
            raise WrongFault(f"delay of {self.delay_ms} ms: want 1 to {DELAY_MS_MAX}")
        if self.times is not None and self.times < 1:
            raise WrongFault(f"{self.times} times: want at least 1")
        return self
