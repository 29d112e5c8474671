"""Cases of JoinGroup, SyncGroup, Heartbeat and LeaveGroup: members that come, wait, go, and are refused."""

from __future__ import annotations

import time
from typing import Any

from tests.parity.broker import Broker, Observations
from tests.parity.cases import case
from tests.parity.members import LEAVE, casting, stable, subscription, together
from tests.parity.wire import Nothing

NOBODY = "parity-00000000-0000-0000-0000-000000000000"


def _or(version: int, last: int) -> int:
    return min(version, last)


@case
def group_life_in_every_version(broker: Broker) -> Observations:
    for version in range(10):
        with casting(broker, f"life-{version}") as cast:
            a = cast.member("a")
            yield f"v{version} join", a.join(version)
            if version >= 4:
                yield f"v{version} join with the id", a.join(version)
            given = {a.id: b"mine", NOBODY: b"nobody's"}
            yield f"v{version} sync", a.sync(_or(version, 5), given)
            yield f"v{version} heartbeat", a.beat(_or(version, 4))
            yield f"v{version} described", cast.describe(_or(version, 6))
            yield f"v{version} join again", a.join(version)
            yield f"v{version} heartbeat of the old generation", a.beat(_or(version, 4), generation_id=1)
            yield f"v{version} sync again", a.sync(_or(version, 5), given)
            yield f"v{version} leave", a.leave(_or(version, 5))
            yield f"v{version} heartbeat when gone", a.beat(_or(version, 4))
            yield f"v{version} described empty", cast.describe(_or(version, 6))
            yield f"v{version} join when gone", a.join(version)
            yield f"v{version} sync when gone", a.sync(_or(version, 5))
            yield f"v{version} leave when gone", a.leave(_or(version, 5))


@case
def group_join_refused(broker: Broker) -> Observations:
    with casting(broker, "refusing") as cast:
        a, b = cast.member("a"), cast.member("b")
        for version in (0, 4, 5, 9):
            for label, session in (("0", 0), ("short", 5_999), ("long", 1_800_001), ("negative", -1)):
                yield f"v{version} session {label}", b.join(version, session_timeout=session)
            yield f"v{version} no such group", b.join(version, member_id=NOBODY)
            yield f"v{version} no group id", b.join(version, group_id="")
            yield f"v{version} no protocols", b.join(version, protocols=())
            yield f"v{version} no type", b.join(version, protocol_type="")
        yield "no such group, static", b.join(9, member_id=NOBODY, group_instance_id="i")
        stable(cast, a)
        for version in (0, 5, 9):
            yield f"v{version} unknown", b.join(version, member_id=NOBODY)
            yield f"v{version} unknown, short session", b.join(version, member_id=NOBODY, session_timeout=1)
            yield f"v{version} another type", b.join(version, protocol_type="connect")
            yield f"v{version} no type here", b.join(version, protocol_type="")
            other = [{"name": "other", "metadata": subscription("")}]
            yield f"v{version} another protocol", b.join(version, protocols=other)
            yield f"v{version} no protocols here", b.join(version, protocols=())
            yield f"v{version} unknown, another protocol", b.join(version, member_id=NOBODY, protocols=other)
        yield "unknown instance", b.join(9, member_id=a.id, group_instance_id="i")
        yield "unknown id, unknown instance", b.join(9, member_id=NOBODY, group_instance_id="i")
        yield "still stable", cast.describe()


@case
def group_pending_ids(broker: Broker) -> Observations:
    with casting(broker, "pending") as cast:
        a, b = cast.member("a"), cast.member("b")
        yield "given out", b.join(9)
        yield "described", cast.describe()
        yield "heartbeat", b.beat()
        yield "sync", b.sync()
        yield "with an instance", b.join(9, group_instance_id="i")
        yield "leaves", b.leave()
        yield "leaves again", b.leave()
        b.id = ""
        a.enter()
        yield "first", a.answer()
        yield "second waits for nobody", a.sync(5, {a.id: b"all"})
        yield "given out while stable", b.join(9)
        yield "still stable", a.beat()
        a.begin_join()
        yield "the leader waits for the id", a.answer(0.3)
    with casting(broker, "pending-leaves") as cast:
        a, b = cast.member("a"), cast.member("b")
        stable(cast, a)
        b.join(9)
        yield "leaves while stable", b.leave()
        yield "then", a.beat()
        yield "state then", cast.describe()["group_state"]


@case
def group_two_members(broker: Broker) -> Observations:
    with casting(broker, "two") as cast:
        a, b = (
            cast.member("a"),
            cast.member("b", protocols=(("range", subscription("b's")), ("other", subscription("")))),
        )
        a.enter()
        yield "a alone", a.answer()
        yield "a before its sync", a.beat()
        yield "described before the sync", cast.describe()
        yield "a joins again before its sync", a.join()
        yield "a's sync", a.sync(5, {a.id: b"all"})
        b.enter()
        cast.until("PreparingRebalance", 2)
        yield "a is told", a.beat()
        yield "a syncs late", a.sync()
        yield "described while preparing", cast.describe()
        a.begin_join()
        yield "a leads", a.answer()
        yield "b follows", b.answer()
        yield "b, same metadata", b.join()
        yield "the old generation", a.beat(generation_id=1)
        yield "b's heartbeat before the assignment", b.beat()
        b.begin_sync()
        yield "b waits", b.answer(0.3)
        yield "described while completing", cast.describe()
        yield "a assigns only b", a.sync(5, {b.id: b"b's part"})
        yield "b's part", b.answer()
        yield "b again", b.sync()
        yield "b's with assignments of its own", b.sync(5, {b.id: b"stolen"})
        yield "stable", cast.describe()
        yield "a follower comes back with the same", b.join()
        yield "in version 0", b.join(0)
        yield "still stable", a.beat()
        b.begin_join(protocols=[{"name": "range", "metadata": subscription("changed")}])
        cast.until("PreparingRebalance", 2)
        yield "a is told of the change", a.beat()
        a.begin_join()
        yield "a again", a.answer()
        yield "b changed", b.answer()
        b.begin_sync()
        yield "b waits again", b.answer(0.2)
        yield "b leaves meanwhile", cast.ask(LEAVE, 4, members=[{"member_id": b.id}])
        yield "b's sync", b.answer(1)
        yield "a's sync comes late", a.sync(5, {a.id: b"x", b.id: b"y"})
        yield "a alone again", a.join()
        yield "a's last sync", a.sync(5, {a.id: b"x"})
        yield "a's part", a.sync()


@case
def group_sync_refused(broker: Broker) -> Observations:
    with casting(broker, "syncing") as cast:
        a, b = cast.member("a"), cast.member("b")
        for version in range(6):
            yield f"v{version} no such group", b.sync(version, member_id=NOBODY)
            yield f"v{version} no group id", b.sync(version, group_id="", member_id=NOBODY)
        a.enter()
        yield "first", a.answer()
        for state in ("completing", "stable"):
            for version in range(6):
                label = f"{state} v{version}"
                yield f"{label} unknown", b.sync(version, member_id=NOBODY)
                yield f"{label} no id", b.sync(version, member_id="")
                yield f"{label} generation", b.sync(version, member_id=a.id, generation_id=7)
                if version >= 3:
                    yield f"{label} instance", b.sync(version, member_id=a.id, group_instance_id="i")
            for what in ("protocol_type", "protocol_name"):
                for named in ("x", None, ""):
                    more: dict[str, Any] = {"member_id": a.id, "generation_id": 1, what: named}
                    yield f"{state} {what} {named!r}", b.sync(5, **more)
            if state == "completing":
                yield "assigned", a.sync(5, {a.id: b"all"})
        yield "once more", a.sync(5, {a.id: b"other"})


@case
def group_heartbeats_refused(broker: Broker) -> Observations:
    with casting(broker, "beating") as cast:
        a = cast.member("a")
        for version in range(5):
            yield f"v{version} no such group", a.beat(version, member_id=NOBODY)
            yield f"v{version} no group id", a.beat(version, group_id="", member_id=NOBODY)
        stable(cast, a)
        for version in range(5):
            yield f"v{version} unknown", a.beat(version, member_id=NOBODY)
            yield f"v{version} no id", a.beat(version, member_id="")
            yield f"v{version} generation", a.beat(version, generation_id=0)
            yield f"v{version} later generation", a.beat(version, generation_id=2)
            yield f"v{version} good", a.beat(version)
        yield "instance", a.beat(4, group_instance_id="i")
        yield "unknown, wrong generation", a.beat(4, member_id=NOBODY, generation_id=9)


@case
def group_leaves(broker: Broker) -> Observations:
    with casting(broker, "leaving") as cast:
        a, b, c = cast.member("a"), cast.member("b"), cast.member("c", "c-instance")
        for version in range(6):
            yield f"v{version} no such group", a.leave(version, member_id=NOBODY)
            yield f"v{version} no group id", a.leave(version, group_id="", member_id=NOBODY)
        yield "no such group, no members", a.ask(LEAVE, 5, members=())
        yield "no group id, two", a.ask(LEAVE, 5, group_id="", members=[{"member_id": "x"}, {"member_id": "y"}])
        stable(cast, a, b, c)
        for version in range(6):
            yield f"v{version} unknown", a.leave(version, member_id=NOBODY)
            yield f"v{version} no id", a.leave(version, member_id="")
        yield "no members", a.ask(LEAVE, 5, members=())
        strange = [
            {"member_id": NOBODY, "group_instance_id": "c-instance"},
            {"member_id": c.id, "group_instance_id": "other"},
            {"member_id": "", "group_instance_id": "other"},
            {"member_id": b.id, "group_instance_id": "c-instance"},
        ]
        yield "who they aren't", a.ask(LEAVE, 5, members=strange)
        yield "stable", (a.beat(), cast.describe()["group_state"])
        yield "c by its instance", a.ask(LEAVE, 5, members=[{"member_id": "", "group_instance_id": "c-instance"}])
        yield "told", (a.beat(), b.beat(), c.beat())
        b.begin_join()
        twice = [{"member_id": b.id}, {"member_id": b.id}, {"member_id": NOBODY}]
        cast.until("PreparingRebalance", 2)
        time.sleep(0.1)
        yield "b twice", a.ask(LEAVE, 5, members=twice)
        yield "b's join", b.answer(1)
        yield "a goes on", a.join()
        yield "a leaves unsynced", a.leave()
        yield "empty", cast.describe()


@case
def group_static_members(broker: Broker) -> Observations:
    with casting(broker, "static") as cast:
        a, b, b2 = cast.member("a", "i-a"), cast.member("b", "i-b"), cast.member("b", "i-b")
        stable(cast, a, b)
        yield "stable", cast.describe()
        yield "b under a new id", b2.join()
        yield "nobody rebalances", (a.beat(), b2.beat())
        yield "b's part", b2.sync()
        yield "old heartbeat", b.beat()
        yield "old sync", b.sync()
        yield "old join", b.join()
        yield "old leave", b.leave()
        yield "old id without instance", b.beat(group_instance_id=None)
        yield "new id without instance", b2.beat(group_instance_id=None)
        yield "described then", cast.describe()
        for version in (5, 8, 9):
            again = cast.member("a", "i-a")
            yield f"v{version} the leader under a new id", again.join(version)
            yield f"v{version} its part", again.sync(_or(version, 5), {again.id: b"other", b2.id: b"other"})
            yield f"v{version} nobody rebalances", (again.beat(), b2.beat())
        changed = cast.member("b", "i-b", protocols=(("range", subscription("changed")),))
        yield "b with other metadata", changed.join()
        yield "stable all the same", (again.beat(), changed.beat())
        last = cast.member("b", "i-b", protocols=(("other", subscription("")), ("range", subscription("changed"))))
        yield "b with one protocol more", last.join()
        c = cast.member("c", "i-c")
        c.begin_join()
        cast.until("PreparingRebalance", 3)
        third = cast.member("b", "i-b")
        third.begin_join()
        yield "waits for the leader", third.answer(0.2)
        fourth = cast.member("b", "i-b")
        fourth.begin_join()
        yield "replaced while it waits", third.answer(2)
        again.begin_join()
        yield from zip(("b", "c", "the leader"), [one.answer() for one in (fourth, c, again)], strict=True)
        fourth.begin_sync()
        time.sleep(0.1)
        fifth = cast.member("b", "i-b")
        fifth.begin_join()
        yield "replaced while it waits for its part", fourth.answer(2)
        cast.until("PreparingRebalance", 3)
        yield "told", (again.beat(), c.beat())


@case
def group_leader_lost(broker: Broker) -> Observations:
    with casting(broker, "leader-lost") as cast:
        a, b, c = cast.member("a"), cast.member("b"), cast.member("c")
        stable(cast, a, b, c)
        yield "leader leaves", a.leave()
        b.begin_join()
        cast.until("PreparingRebalance", 2)
        time.sleep(0.1)
        c.begin_join()
        answers = [b.answer(), c.answer()]
        yield "one leads", sorted(len(answer["members"]) for answer in answers)
        yield "both know", len({answer["leader"] for answer in answers})
        yield "generations", [answer["generation_id"] for answer in answers]


@case
def group_rebalance_timeout(broker: Broker) -> Observations:
    """Counted once, from the beginning of the rebalance: who comes meanwhile doesn't prolong it."""
    with casting(broker, "late") as cast:
        a, b, c, d = (cast.member(name) for name in "abcd")
        a.enter(rebalance_timeout=1_500)
        a.answer()
        a.sync(5, {a.id: b""})
        b.enter(rebalance_timeout=1_500)
        cast.until("PreparingRebalance", 2)
        began = time.monotonic()
        time.sleep(0.8)
        c.enter(rebalance_timeout=1_500)
        time.sleep(0.2)
        d.enter(rebalance_timeout=1_500)
        answers = [member.answer() for member in (b, c, d)]
        took = time.monotonic() - began
        yield "once", 1.2 < took < 2.1
        yield (
            "members",
            [sorted(member["member_id"] for member in answer["members"]) for answer in answers].count([]) == 2,
        )
        yield "who was late", a.beat()
        yield "state", cast.describe()["group_state"]
        yield "nobody syncs", len(cast.describe()["members"])
        time.sleep(1.9)
        yield "all are dropped", cast.describe()


@case
def group_votes(broker: Broker) -> Observations:
    with casting(broker, "votes") as cast:
        a = cast.member(
            "a", protocols=(("p", subscription("a-p")), ("q", subscription("a-q")), ("r", subscription("")))
        )
        b = cast.member("b", protocols=(("q", subscription("b-q")), ("p", subscription("b-p"))))
        c = cast.member(
            "c", protocols=(("x", subscription("")), ("q", subscription("c-q")), ("p", subscription("c-p")))
        )
        for number, answer in enumerate(together(cast, a, b, c)):
            yield f"member {number}", answer
        for member in (a, b, c):
            member.begin_sync(5, {a.id: b"1"} if member is a else None, protocol_name="q")
        yield "parts", [member.answer() for member in (a, b, c)]
        yield "described", cast.describe()


@case
def group_joins_twice(broker: Broker) -> Observations:
    """A second call of one member while the first waits: on another connection."""
    with casting(broker, "doubled") as cast:
        a, b, double = cast.member("a"), cast.member("b"), cast.member("b")
        stable(cast, a)
        b.enter()
        cast.until("PreparingRebalance", 2)
        double.id = b.id
        double.begin_join()
        first = b.answer(0.4)
        yield "the first call", first if isinstance(first, Nothing) else first["error_code"]
        a.begin_join()
        yield "a", a.answer()
        yield "the second call", double.answer()
