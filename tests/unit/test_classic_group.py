"""The classic group's rules, one by one, on the machine alone."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from broker.groups.classic import ClassicGroup
from broker.groups.group import describe
from broker.groups.requests import (
    Answer,
    Commit,
    Delete,
    Effect,
    GroupLimits,
    Heartbeat,
    Join,
    JoinReply,
    Leave,
    LeaveReply,
    Now,
    Reply,
    Request,
    Store,
    Sync,
    SyncReply,
)
from broker.groups.states import MOVES, RULES, Kind, State, drawing, rules_table
from broker.groups.stored import dump_group
from schemas.kafka.errors import ErrorCode

CONSUMER = "consumer"
RANGE = (("range", b"topics"),)


class Table:
    """One machine with a clock; `ask` gives back a token, `answers` what came for it. Writes land unless `held`."""

    def __init__(self, **limits: Any) -> None:
        self.ms = 0
        self.machine = ClassicGroup.empty("g", GroupLimits(**limits), self.now)
        self.answers: dict[int, Answer] = {}
        self.writes: list[Store] = []
        self.held = False
        self._tokens = itertools.count(1)
        self._names = itertools.count(1)

    @property
    def now(self) -> Now:
        return Now(self.ms, 1_000_000 + self.ms)

    def state(self) -> State:
        return self.machine.group.state

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                assert effect.token not in self.answers, "answered twice"
                self.answers[effect.token] = effect.answer
            else:
                self.writes.append(effect)
                if not self.held:
                    self.take(self.machine.stored(effect.write, 0, self.now))

    def ask(self, request: Request) -> int:
        token = next(self._tokens)
        self.take(self.machine.handle(request, token, self.now))
        return token

    def now_answer(self, request: Request) -> Any:
        return self.answers[self.ask(request)]

    def wait(self, ms: int) -> None:
        """Let time pass, waking whenever the machine wants."""
        end = self.ms + ms
        while (wake := self.machine.group.timers.wake_ms) is not None and wake <= end:
            self.ms = max(self.ms, wake)
            self.take(self.machine.tick(self.now))
        self.ms = end

    def request(self, member_id: str = "", **changes: Any) -> Join:
        fields: dict[str, Any] = {
            "member_id": member_id,
            "instance_id": None,
            "client_id": "c",
            "client_host": "/h",
            "session_ms": 10_000,
            "rebalance_ms": 60_000,
            "protocol_type": CONSUMER,
            "protocols": RANGE,
            "fresh_id": str(next(self._names)),
        }
        return Join(**{**fields, **changes})

    def enter(self, **changes: Any) -> tuple[str, int]:
        """A new dynamic member: (its id, the token of its parked join)."""
        first = self.now_answer(self.request(**changes))
        assert first.error == ErrorCode.MEMBER_ID_REQUIRED
        return first.member_id, self.ask(self.request(first.member_id, **changes))

    def joined(self, token: int) -> JoinReply:
        answer = self.answers[token]
        assert isinstance(answer, JoinReply)
        assert answer.error == 0
        return answer

    def settle(self, count: int) -> list[str]:
        """A stable group of `count` dynamic members, the leader first."""
        entered = [self.enter() for _ in range(count)]
        self.wait(6_000)
        return self.sync_all([member for member, _ in entered])

    def sync_all(self, members: list[str]) -> list[str]:
        group = self.machine.group
        assert group.leader is not None
        given = tuple((member, member.encode()) for member in group.members)
        ordered = sorted(members, key=lambda member: member != group.leader)
        for member in reversed(ordered):
            self.ask(Sync(member, group.generation, assignments=given if member == group.leader else ()))
        assert self.state() is State.STABLE
        return ordered


def test_tables_are_whole() -> None:
    assert set(RULES) == set(itertools.product(State, Kind))
    assert all(source is not State.DEAD for source, _ in MOVES)
    assert "PreparingRebalance --> CompletingRebalance" in drawing()
    assert rules_table().count("\n") == len(Kind) + 1


def test_a_new_member_is_first_given_an_id_and_the_id_runs_out() -> None:
    table = Table()
    answer = table.now_answer(table.request())
    assert (answer.error, answer.member_id) == (ErrorCode.MEMBER_ID_REQUIRED, "c-1")
    assert "c-1" in table.machine.group.pending
    table.wait(10_001)
    assert not table.machine.group.pending
    assert table.now_answer(table.request("c-1")).error == ErrorCode.UNKNOWN_MEMBER_ID


def test_before_version_4_a_member_joins_at_once() -> None:
    table = Table()
    token = table.ask(table.request(id_required=False))
    table.wait(3_000)
    assert table.joined(token).generation == 1


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
def test_session_timeouts_have_limits(session_ms: int) -> None:
    table = Table()
    assert table.now_answer(table.request(session_ms=session_ms)).error == ErrorCode.INVALID_SESSION_TIMEOUT


def test_the_initial_delay_is_extended_for_newcomers_up_to_the_rebalance_timeout() -> None:
    table = Table()
    _, first = table.enter(rebalance_ms=7_000)
    for _ in range(2):
        table.wait(2_000)
        table.enter(rebalance_ms=7_000)
    table.wait(2_999)
    assert first not in table.answers, "3000 + 3000 + 1000"
    table.wait(1)
    assert table.joined(first).generation == 1
    assert len(table.joined(first).members) == 3


def test_only_the_leader_is_told_the_members() -> None:
    table = Table()
    (leader, one), (_, two) = table.enter(), table.enter()
    table.wait(6_000)
    assert table.joined(one).members[0][0] == leader
    assert table.joined(two).members == ()
    assert table.joined(two).leader == leader


def test_protocols_must_be_shared() -> None:
    table = Table()
    table.enter()
    other = table.request(protocols=(("sticky", b""),))
    assert table.now_answer(other).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert table.now_answer(table.request(protocol_type="connect")).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert Table().now_answer(table.request(protocols=())).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert Table().now_answer(table.request(protocol_type="")).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_protocol_with_most_votes_wins() -> None:
    table = Table()
    both = (("range", b"r"), ("sticky", b"s"))
    _, one = table.enter(protocols=both)
    table.enter(protocols=both[::-1])
    table.enter(protocols=both[::-1])
    table.wait(6_000)
    assert table.joined(one).protocol == "sticky"
    assert {metadata for _, _, metadata in table.joined(one).members} == {b"s"}


def test_assignments_are_stored_before_they_are_told() -> None:
    table = Table()
    (leader, _), (follower, _) = table.enter(), table.enter()
    table.wait(6_000)
    table.held = True
    waits = table.ask(Sync(follower, 1))
    leads = table.ask(Sync(leader, 1, assignments=((follower, b"f"),)))
    assert not {waits, leads} & set(table.answers)
    assert table.state() is State.COMPLETING
    table.take(table.machine.stored(table.writes[-1].write, 0, table.now))
    assert table.answers[waits] == SyncReply(0, CONSUMER, "range", b"f")
    assert table.answers[leads] == SyncReply(0, CONSUMER, "range", b"")
    assert table.state() is State.STABLE
    assert table.now_answer(Sync(follower, 1)).assignment == b"f", "a retry gets it again"


def test_an_assignment_that_cannot_be_stored_begins_a_rebalance() -> None:
    table = Table()
    (leader, _), (follower, _) = table.enter(), table.enter()
    table.wait(6_000)
    table.held = True
    waits, leads = table.ask(Sync(follower, 1)), table.ask(Sync(leader, 1))
    table.take(table.machine.stored(table.writes[-1].write, ErrorCode.COORDINATOR_NOT_AVAILABLE, table.now))
    assert {table.answers[token].error for token in (waits, leads)} == {ErrorCode.COORDINATOR_NOT_AVAILABLE}  # type: ignore[union-attr]
    assert table.state() is State.PREPARING


def test_an_assignment_of_a_past_generation_is_not_given() -> None:
    table = Table()
    leader, _ = table.enter()
    table.wait(3_000)
    table.held = True
    parked = table.ask(Sync(leader, 1, assignments=((leader, b"old"),)))
    table.enter()
    assert table.answers[parked] == SyncReply(ErrorCode.REBALANCE_IN_PROGRESS)
    table.ask(table.request(leader))
    assert table.machine.group.generation == 2
    table.take(table.machine.stored(table.writes[0].write, 0, table.now))
    assert table.state() is State.COMPLETING
    assert not any(member.assignment for member in table.machine.group.members.values())


def test_sync_checks_member_generation_and_protocol() -> None:
    table = Table()
    leader, follower = table.settle(2)
    assert table.now_answer(Sync("nobody", 1)).error == ErrorCode.UNKNOWN_MEMBER_ID
    assert table.now_answer(Sync(leader, 0)).error == ErrorCode.ILLEGAL_GENERATION
    assert table.now_answer(Sync(leader, 1, protocol="x")).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    assert table.now_answer(Sync(leader, 1, protocol_type="x")).error == ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    table.ask(table.request(leader))
    assert table.now_answer(Sync(follower, 1)).error == ErrorCode.REBALANCE_IN_PROGRESS


def test_heartbeats_in_every_state() -> None:
    table = Table()
    assert table.now_answer(Heartbeat("x", 0)) == ErrorCode.UNKNOWN_MEMBER_ID
    (leader, _), (follower, _) = table.enter(), table.enter()
    table.wait(6_000)
    assert table.now_answer(Heartbeat(leader, 1)) == ErrorCode.NONE, "while the assignment is made"
    table.sync_all([leader, follower])
    assert table.now_answer(Heartbeat(leader, 1)) == ErrorCode.NONE
    assert table.now_answer(Heartbeat(leader, 0)) == ErrorCode.ILLEGAL_GENERATION
    table.ask(table.request(leader))
    assert table.now_answer(Heartbeat(follower, 1)) == ErrorCode.REBALANCE_IN_PROGRESS


def test_a_silent_member_is_lost_and_a_heartbeat_keeps_it() -> None:
    table = Table()
    leader, follower = table.settle(2)
    table.wait(8_000)
    table.ask(Heartbeat(leader, 1))
    table.wait(2_001)
    assert follower not in table.machine.group.members
    assert table.state() is State.PREPARING
    token = table.ask(table.request(leader))
    assert table.joined(token).generation == 2


def test_a_member_that_waits_is_not_lost() -> None:
    table = Table()
    leader, follower = table.settle(2)
    parked = table.ask(table.request(leader))
    for _ in range(6):
        table.wait(9_000)
        table.ask(Heartbeat(follower, 1))
    assert leader in table.machine.group.members
    table.wait(6_000)
    assert table.joined(parked).generation == 2, "the rebalance timeout has passed"
    assert follower not in table.machine.group.members, "it never joined again"


def test_the_leader_rejoining_always_rebalances_a_follower_only_when_it_changed() -> None:
    table = Table()
    leader, follower = table.settle(2)
    assert table.now_answer(table.request(follower)).generation == 1
    assert table.state() is State.STABLE
    token = table.ask(table.request(follower, protocols=(("range", b"other"),)))
    assert table.state() is State.PREPARING
    table.ask(table.request(leader))
    assert table.joined(token).generation == 2
    table.sync_all([leader, follower])
    table.ask(table.request(leader))
    assert table.state() is State.PREPARING


def test_rejoining_with_the_same_metadata_while_completing_gives_the_generation_again() -> None:
    table = Table()
    (leader, _), (follower, _) = table.enter(), table.enter()
    table.wait(6_000)
    assert len(table.now_answer(table.request(leader)).members) == 2
    assert table.now_answer(table.request(follower)).generation == 1
    assert table.state() is State.COMPLETING
    table.ask(table.request(follower, protocols=(("range", b"other"),)))
    assert table.state() is State.PREPARING


def test_the_first_to_have_joined_leads_when_the_leader_is_missing() -> None:
    table = Table()
    leader, follower, third = table.settle(3)
    table.ask(Heartbeat(leader, 1))
    token = table.ask(table.request(third, protocols=(("range", b"new"),)))
    table.ask(table.request(follower))
    for _ in range(7):
        table.wait(9_000)
        table.ask(Heartbeat(leader, 1))
    answer = table.joined(token)
    assert answer.leader in (follower, third)
    assert leader not in table.machine.group.members


def test_members_that_do_not_sync_in_time_are_dropped() -> None:
    table = Table()
    (leader, _), (follower, _) = table.enter(session_ms=600_000), table.enter(session_ms=600_000)
    table.wait(6_000)
    table.ask(Sync(leader, 1))
    assert table.state() is State.STABLE
    table.wait(60_000)
    assert follower not in table.machine.group.members
    assert table.state() is State.PREPARING


def test_the_group_has_a_largest_size() -> None:
    table = Table(size_max=1)
    member, _ = table.enter()
    answer = table.now_answer(table.request())
    assert (answer.error, answer.member_id) == (ErrorCode.GROUP_MAX_SIZE_REACHED, "")
    table.wait(3_000)
    assert list(table.machine.group.members) == [member]


def test_leaving() -> None:
    table = Table()
    leader, follower = table.settle(2)
    pending = table.now_answer(table.request()).member_id
    left = table.now_answer(Leave(((pending, None), ("nobody", None), ("", "no such instance"))))
    assert left == LeaveReply(0, (0, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.UNKNOWN_MEMBER_ID))
    assert table.state() is State.PREPARING, "even an id that was only given out"
    for member in (leader, follower):
        table.ask(table.request(member))
    table.sync_all([leader, follower])
    nobody = table.now_answer(Leave((("nobody", None),)))
    assert nobody == LeaveReply(0, (ErrorCode.UNKNOWN_MEMBER_ID,))
    assert table.state() is State.STABLE
    assert table.now_answer(Leave(((follower, None),))) == LeaveReply(0, (0,))
    assert table.state() is State.PREPARING
    table.ask(Leave(((leader, None),)))
    assert table.state() is State.EMPTY
    assert table.machine.group.generation == 3
    assert table.writes[-1].write == 0, "the empty group is stored"


def test_a_pending_id_holds_the_join_up_until_it_leaves() -> None:
    table = Table()
    [leader] = table.settle(1)
    pending = table.now_answer(table.request()).member_id
    token = table.ask(table.request(leader))
    assert token not in table.answers
    table.ask(Leave(((pending, None),)))
    assert table.joined(token).generation == 2


def static(table: Table, instance: str, **changes: Any) -> int:
    return table.ask(table.request(instance_id=instance, **changes))


def two_static() -> tuple[Table, str, str]:
    table = Table()
    one, two = static(table, "i1"), static(table, "i2")
    table.wait(6_000)
    members = [table.joined(one).member_id, table.joined(two).member_id]
    table.sync_all(members)
    return table, members[0], members[1]


def test_a_static_member_comes_back_without_a_rebalance() -> None:
    table, leader, follower = two_static()
    table.held = True
    token = static(table, "i2")
    assert token not in table.answers, "stored before it is told"
    table.take(table.machine.stored(table.writes[-1].write, 0, table.now))
    answer = table.joined(token)
    assert (answer.generation, answer.leader, answer.skip_assignment) == (1, leader, False)
    assert table.state() is State.STABLE
    assert table.now_answer(Sync(answer.member_id, 1, "i2")).assignment == follower.encode()
    assert table.now_answer(Heartbeat(follower, 1, "i2")) == ErrorCode.FENCED_INSTANCE_ID
    assert table.now_answer(Commit(follower, 1, "i2")) == ErrorCode.FENCED_INSTANCE_ID
    assert table.now_answer(Heartbeat(follower, 1)) == ErrorCode.UNKNOWN_MEMBER_ID
    assert table.now_answer(Heartbeat(leader, 1, "unknown")) == ErrorCode.UNKNOWN_MEMBER_ID


def test_a_static_leader_skips_the_assignment() -> None:
    table, leader, _ = two_static()
    answer = table.joined(static(table, "i1"))
    assert answer.skip_assignment
    assert answer.leader == answer.member_id != leader
    assert len(answer.members) == 2
    old = table.joined(static(table, "i1", skips=False))
    assert (old.leader, old.members, old.skip_assignment) == (answer.member_id, (), False)


def test_a_static_replacement_that_cannot_be_stored_is_undone() -> None:
    table, _, follower = two_static()
    table.held = True
    token = static(table, "i2", session_ms=20_000)
    table.take(table.machine.stored(table.writes[-1].write, ErrorCode.NOT_COORDINATOR, table.now))
    assert table.answers[token].error == ErrorCode.NOT_COORDINATOR  # type: ignore[union-attr]
    assert table.machine.group.members[follower].session_ms == 10_000
    assert table.now_answer(Heartbeat(follower, 1, "i2")) == ErrorCode.NONE


def test_a_static_member_with_another_protocol_rebalances() -> None:
    table = Table()
    both = (("range", b"r"), ("sticky", b"s"))
    one = static(table, "i1", protocols=both)
    table.wait(3_000)
    table.sync_all([table.joined(one).member_id])
    static(table, "i1", protocols=both[::-1])
    assert table.machine.group.generation == 2


def test_a_parked_call_of_a_replaced_static_member_is_fenced() -> None:
    table = Table()
    first, second = static(table, "i1"), static(table, "i1")
    assert table.answers[first].error == ErrorCode.FENCED_INSTANCE_ID  # type: ignore[union-attr]
    table.wait(6_000)
    assert table.joined(second).generation == 1


def test_a_static_member_that_does_not_rejoin_stays_until_its_session_ends() -> None:
    table, leader, follower = two_static()
    table.ask(table.request(leader, instance_id="i1", session_ms=600_000))
    table.wait(9_000)
    assert follower in table.machine.group.members
    table.wait(2_000)
    assert follower not in table.machine.group.members
    assert table.machine.group.generation == 2


def test_a_static_member_leaves_by_its_instance_alone() -> None:
    table, _, follower = two_static()
    assert table.now_answer(Leave((("", "i2"),))) == LeaveReply(0, (0,))
    assert follower not in table.machine.group.members


def test_commits() -> None:
    table = Table()
    assert table.now_answer(Commit("", -1)) == ErrorCode.NONE, "an empty group takes offsets from outside"
    (leader, _), (follower, _) = table.enter(), table.enter()
    table.wait(6_000)
    assert table.now_answer(Commit(leader, 1)) == ErrorCode.REBALANCE_IN_PROGRESS
    table.sync_all([leader, follower])
    assert table.now_answer(Commit(leader, 1)) == ErrorCode.NONE
    assert table.now_answer(Commit(leader, 0)) == ErrorCode.ILLEGAL_GENERATION
    assert table.now_answer(Commit("nobody", 1)) == ErrorCode.UNKNOWN_MEMBER_ID
    assert table.now_answer(Commit("", -1)) == ErrorCode.UNKNOWN_MEMBER_ID
    table.ask(table.request(leader))
    assert table.now_answer(Commit(follower, 1)) == ErrorCode.NONE, "before it joins again"


def test_deleting() -> None:
    table = Table()
    [leader] = table.settle(1)
    assert table.now_answer(Delete()) == ErrorCode.NON_EMPTY_GROUP
    table.ask(Leave(((leader, None),)))
    assert table.now_answer(Delete()) == ErrorCode.NONE
    assert table.state() is State.DEAD
    assert table.now_answer(Delete()) == ErrorCode.GROUP_ID_NOT_FOUND
    assert table.now_answer(table.request()).error == ErrorCode.COORDINATOR_NOT_AVAILABLE
    assert table.now_answer(Heartbeat(leader, 1)) == ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_retiring_answers_everybody() -> None:
    table = Table()
    leader, _ = table.settle(2)
    parked = table.ask(table.request(leader))
    table.take(table.machine.retire(ErrorCode.NOT_COORDINATOR, table.now))
    assert table.answers[parked].error == ErrorCode.NOT_COORDINATOR  # type: ignore[union-attr]
    assert len(table.machine.group.timers) == 0


def test_the_next_coordinator_keeps_members_and_assignments() -> None:
    table = Table()
    _, follower = table.settle(2)
    state = table.writes[-1].state
    machine, effects = ClassicGroup.restored("g", state, GroupLimits(), Now(0, 0))
    assert not effects
    assert dump_group(machine.group) == state
    other = Table()
    other.machine = machine
    assert other.now_answer(Heartbeat(follower, 1)) == ErrorCode.NONE
    assert other.now_answer(Sync(follower, 1)).assignment == follower.encode()
    assert describe(machine.group).members == describe(table.machine.group).members
    other.wait(10_001)
    assert other.state() is State.EMPTY or not other.machine.group.members, "sessions run there too"


def test_a_restored_group_above_the_size_rebalances() -> None:
    table = Table()
    table.settle(2)
    machine, _ = ClassicGroup.restored("g", table.writes[-1].state, GroupLimits(size_max=1), Now(0, 0))
    assert machine.group.state is State.PREPARING
