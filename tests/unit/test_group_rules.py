"""Rules of classic groups that stand outside of the machine's usual ways, and the list of all rules with the tests that hold them."""

from __future__ import annotations

import importlib
from uuid import UUID

import pytest

from broker.groups.classic import ClassicGroup
from broker.groups.group import Group, Member
from broker.groups.requests import (
    Answer,
    Commit,
    Delete,
    GroupLimits,
    Heartbeat,
    Join,
    JoinReply,
    Leave,
    LeaveReply,
    Now,
    Request,
    Sync,
    SyncReply,
)
from broker.groups.retention import expired
from broker.groups.states import State
from broker.groups.subscription import subscribed, topics_of
from broker.groups.without_group import unknown_group, while_loading
from catalog.groups import StoredOffset
from schemas.kafka.errors import ErrorCode
from tests.unit.test_classic_group import Table, static, two_static

E = ErrorCode
LIMITS = GroupLimits()


def join(member_id: str = "", session_ms: int = 10_000) -> Join:
    return Join(member_id, None, "c", "/h", session_ms, 10_000, "consumer", (("range", b""),), "1")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (Heartbeat("m", 1), E.NONE),
        (Sync("m", 1), SyncReply(E.REBALANCE_IN_PROGRESS)),
        (join("m"), JoinReply(E.COORDINATOR_LOAD_IN_PROGRESS, "m")),
        (Leave((("m", None),)), LeaveReply(E.COORDINATOR_LOAD_IN_PROGRESS)),
        (Commit("m", 1), E.COORDINATOR_LOAD_IN_PROGRESS),
        (Delete(), E.COORDINATOR_LOAD_IN_PROGRESS),
    ],
)
def test_while_the_slot_is_loaded(request_: Request, answer: Answer) -> None:
    assert while_loading(request_) == answer


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (join(), None),
        (join(session_ms=1), JoinReply(E.INVALID_SESSION_TIMEOUT, "")),
        (join("m"), JoinReply(E.UNKNOWN_MEMBER_ID, "m")),
        (join("m", session_ms=1), JoinReply(E.INVALID_SESSION_TIMEOUT, "m")),
        (Sync("m", 1), SyncReply(E.UNKNOWN_MEMBER_ID)),
        (Heartbeat("m", 1), E.UNKNOWN_MEMBER_ID),
        (Leave((("m", None), ("", "i"))), LeaveReply(0, (E.UNKNOWN_MEMBER_ID, E.UNKNOWN_MEMBER_ID))),
        (Commit("", -1), None),
        (Commit("m", 0), E.GROUP_ID_NOT_FOUND),
        (Delete(), E.GROUP_ID_NOT_FOUND),
    ],
)
def test_where_there_is_no_group(request_: Request, answer: Answer | None) -> None:
    assert unknown_group(request_, LIMITS) == answer, "None makes the group"


def test_a_new_members_first_join_ends_after_five_minutes() -> None:
    table = Table(new_member_join_ms=300_000)
    [leader] = table.settle(1)
    table.ask(table.request(leader, rebalance_ms=900_000, protocols=(("range", b"new"),)))
    table.sync_all([leader])
    first = table.now_answer(table.request())
    waits = table.ask(table.request(first.member_id, session_ms=6_000))
    for _ in range(33):
        table.wait(9_000)
        table.ask(Heartbeat(leader, table.machine.group.generation))
    assert waits not in table.answers, "its session doesn't count yet"
    table.wait(5_000)
    assert table.answers[waits] == JoinReply(E.UNKNOWN_MEMBER_ID, "")


def test_members_above_the_size_are_turned_away_when_they_join_again() -> None:
    table = Table()
    members = table.settle(3)
    machine, _ = ClassicGroup.restored("g", table.writes[-1].state, GroupLimits(size_max=2), table.now)
    table.machine = machine
    tokens = [table.ask(table.request(member)) for member in members]
    assert table.answers[tokens[2]] == JoinReply(E.GROUP_MAX_SIZE_REACHED, "")
    assert [table.joined(token).generation for token in tokens[:2]] == [2, 2]


def test_the_rebalance_timeout_is_counted_once() -> None:
    table = Table()
    leader, _ = table.settle(2)
    waits = table.ask(table.request(leader))
    for _ in range(6):
        table.wait(9_000)
        table.enter(session_ms=600_000)
        for member in table.machine.group.members.values():
            table.ask(Heartbeat(member.member_id, 1))
    assert waits not in table.answers
    table.wait(6_000)
    assert table.joined(waits).generation == 2, "though somebody came nine seconds ago"


def test_without_anybody_who_joined_the_rebalance_waits_for_static_members() -> None:
    table, leader, follower = two_static()
    dynamic = table.enter(session_ms=600_000)[0]
    assert table.state() is State.PREPARING
    table.ask(Leave(((dynamic, None),)))
    for _ in range(14):
        table.wait(9_000)
        for member, instance in ((leader, "i1"), (follower, "i2")):
            assert table.now_answer(Heartbeat(member, 1, instance)) == E.REBALANCE_IN_PROGRESS
    assert (table.state(), table.machine.group.generation) == (State.PREPARING, 1)
    tokens = [table.ask(table.request(member, instance_id=name)) for member, name in ((leader, "i1"), (follower, "i2"))]
    assert [table.joined(token).generation for token in tokens] == [2, 2]


def test_an_id_that_was_given_out_is_no_static_members() -> None:
    table = Table()
    given = table.now_answer(table.request()).member_id
    assert table.now_answer(table.request(given, instance_id="i")).error == E.UNKNOWN_MEMBER_ID


def test_a_static_member_under_a_new_id_while_assignments_are_made_rebalances() -> None:
    table = Table()
    one, two = static(table, "i1"), static(table, "i2")
    table.wait(6_000)
    waits = table.ask(Sync(table.joined(two).member_id, 1, "i2"))
    again = static(table, "i2")
    assert table.answers[waits] == SyncReply(E.FENCED_INSTANCE_ID)
    assert table.state() is State.PREPARING
    table.ask(table.request(table.joined(one).member_id, instance_id="i1"))
    assert table.joined(again).generation == 2


def test_who_is_removed_while_it_waits_is_answered() -> None:
    table = Table()
    leader, follower = table.settle(2)
    waits = table.ask(table.request(leader))
    table.ask(Leave(((leader, None),)))
    assert table.answers[waits] == JoinReply(E.UNKNOWN_MEMBER_ID, "")
    table.ask(table.request(follower))
    syncs = table.enter()
    table.ask(table.request(follower))
    waits = table.ask(Sync(syncs[0], table.machine.group.generation))
    table.ask(Leave(((syncs[0], None),)))
    assert table.answers[waits] == SyncReply(E.UNKNOWN_MEMBER_ID)


def test_what_a_dead_coordinator_never_stored_isnt_known_to_the_next() -> None:
    """As in Kafka: only assignments and replacements in a stable group are stored, so a generation without one is gone."""
    table, leader, follower = two_static()
    stored = table.writes[-1].state
    table.ask(table.request(leader, instance_id="i1"))
    newer = table.joined(static(table, "i2"))
    assert newer.generation == 2
    table.machine, _ = ClassicGroup.restored("g", stored, LIMITS, table.now)
    assert table.now_answer(Heartbeat(leader, 2, "i1")) == E.ILLEGAL_GENERATION
    assert table.now_answer(Sync(newer.member_id, 2, "i2")).error == E.FENCED_INSTANCE_ID
    again = table.joined(static(table, "i2"))
    assert again.generation == 1
    assert table.now_answer(Sync(again.member_id, 1, "i2")).assignment == follower.encode(), "it keeps its assignment"


# Retention (KIP-211)

RETENTION_MS = 1_000
SINCE_MS = 50_000


def offset(name: str, committed_ms: int, expire_ms: int = -1) -> StoredOffset:
    return StoredOffset(1, name, UUID(int=1), 0, 5, 0, "", committed_ms, expire_ms)


def subscription(*topics: str) -> bytes:
    named = b"".join(len(topic).to_bytes(2, "big") + topic.encode() for topic in topics)
    return bytes(2) + len(topics).to_bytes(4, "big") + named + b"\xff\xff\xff\xff"


def group(state: State, protocol_type: str | None, metadata: bytes | None = None) -> Group:
    made = Group("g", LIMITS, SINCE_MS, state=state, protocol_type=protocol_type, protocol="range")
    if metadata is not None:
        made.add(Member("m", None, "c", "/h", 1, 1, (("range", metadata),)))
    return made


@pytest.mark.parametrize(
    ("made", "now_ms", "gone"),
    [
        (group(State.EMPTY, "consumer"), SINCE_MS + 999, []),
        (group(State.EMPTY, "consumer"), SINCE_MS + 1_000, ["read", "other"]),
        (group(State.EMPTY, "connect"), SINCE_MS + 1_000, ["read", "other"]),
        (group(State.EMPTY, None), 10_999, []),
        (group(State.EMPTY, None), 11_000, ["read", "other"]),
        (group(State.STABLE, "consumer", subscription("read")), SINCE_MS, ["other"]),
        (group(State.STABLE, "consumer", subscription("read", "other")), SINCE_MS, []),
        (group(State.STABLE, "consumer", b"garbage"), SINCE_MS, []),
        (group(State.STABLE, "connect", subscription("read")), SINCE_MS, []),
        (group(State.PREPARING, "consumer", subscription("read")), SINCE_MS, []),
        (group(State.COMPLETING, "consumer", subscription("read")), SINCE_MS, []),
    ],
)
def test_which_offsets_run_out(made: Group, now_ms: int, gone: list[str]) -> None:
    offsets = [offset("read", 10_000), offset("other", 10_000)]
    assert [found.topic_name for found in expired(made, offsets, RETENTION_MS, now_ms)] == gone


def test_an_offset_with_a_time_of_its_own_runs_out_then() -> None:
    made = group(State.EMPTY, "consumer")
    offsets = [offset("a", 10_000, SINCE_MS + 10), offset("b", 10_000)]
    assert expired(made, offsets, RETENTION_MS, SINCE_MS + 9) == []
    assert expired(made, offsets, RETENTION_MS, SINCE_MS + 10) == offsets[:1]


def test_subscriptions_are_read_to_their_last_byte_and_no_further() -> None:
    data = subscription("one", "zwei", "trois")
    topics = ["one", "zwei", "trois"]
    for version in range(4):
        assert topics_of(version.to_bytes(2, "big") + data[2:] + b"further fields") == topics
    for cut in range(len(data) - 4):
        assert topics_of(data[:cut]) is None
    assert topics_of(b"\0\0" + b"\x7f\xff\xff\xff" + data[6:]) is None, "no room for so many"
    assert topics_of(b"\0\0" + b"\xff\xff\xff\xff" + data[6:]) is None
    assert topics_of(b"\0\0\0\0\0\1\0\1\xff") is None, "no text"
    assert subscribed(group(State.STABLE, "consumer", b"")) is None
    assert subscribed(group(State.STABLE, "connect", data)) is None
    assert subscribed(group(State.EMPTY, "consumer")) == frozenset()


# The list

MACHINE, RULES, COORDINATOR, STORE = (
    "unit.test_classic_group", "unit.test_group_rules", "unit.test_group_coordinator", "conformance.test_groups_store",
)  # fmt: skip
LIFE, OUTSIDE, REAL = "parity.cases_groups", "parity.cases_group_offsets", "integration.test_groups"
HELD_BY: list[tuple[str, str, str]] = [
    ("states move only along the table", MACHINE, "test_tables_are_whole"),
    ("a group id is needed, except by four APIs", LIFE, "group_join_refused"),
    ("an empty id for offsets, descriptions and deletions", OUTSIDE, "group_deletion"),
    ("not the coordinator", COORDINATOR, "test_every_agent_names_the_same_coordinator_and_others_refuse"),
    ("loading", RULES, "test_while_the_slot_is_loaded"),
    ("loading, in the coordinator", COORDINATOR, "test_while_a_slot_is_loaded_members_are_asked_to_wait"),
    ("a dead group", MACHINE, "test_deleting"),
    ("join: session timeouts", MACHINE, "test_session_timeouts_have_limits"),
    ("join: unknown group", RULES, "test_where_there_is_no_group"),
    ("join: size", MACHINE, "test_the_group_has_a_largest_size"),
    ("join: size made smaller", RULES, "test_members_above_the_size_are_turned_away_when_they_join_again"),
    ("join: protocols", MACHINE, "test_protocols_must_be_shared"),
    ("join: ids first", MACHINE, "test_a_new_member_is_first_given_an_id_and_the_id_runs_out"),
    ("join: at once before version 4", MACHINE, "test_before_version_4_a_member_joins_at_once"),
    ("join: ids that wait", MACHINE, "test_a_pending_id_holds_the_join_up_until_it_leaves"),
    ("join: given id with an instance", RULES, "test_an_id_that_was_given_out_is_no_static_members"),
    ("join: unknown and fenced", LIFE, "group_static_members"),
    (
        "join: again while completing",
        MACHINE,
        "test_rejoining_with_the_same_metadata_while_completing_gives_the_generation_again",
    ),
    (
        "join: again while stable",
        MACHINE,
        "test_the_leader_rejoining_always_rebalances_a_follower_only_when_it_changed",
    ),
    ("static: no rebalance", MACHINE, "test_a_static_member_comes_back_without_a_rebalance"),
    ("static: the leader", MACHINE, "test_a_static_leader_skips_the_assignment"),
    ("static: stored first, undone on failure", MACHINE, "test_a_static_replacement_that_cannot_be_stored_is_undone"),
    ("static: another protocol", MACHINE, "test_a_static_member_with_another_protocol_rebalances"),
    ("static: while completing", RULES, "test_a_static_member_under_a_new_id_while_assignments_are_made_rebalances"),
    ("static: parked calls", MACHINE, "test_a_parked_call_of_a_replaced_static_member_is_fenced"),
    ("initial delay", MACHINE, "test_the_initial_delay_is_extended_for_newcomers_up_to_the_rebalance_timeout"),
    ("new members' five minutes", RULES, "test_a_new_members_first_join_ends_after_five_minutes"),
    ("rebalance timeout", RULES, "test_the_rebalance_timeout_is_counted_once"),
    ("rebalance timeout, as Kafka's", LIFE, "group_rebalance_timeout"),
    ("static members stay", MACHINE, "test_a_static_member_that_does_not_rejoin_stays_until_its_session_ends"),
    ("leader missing", MACHINE, "test_the_first_to_have_joined_leads_when_the_leader_is_missing"),
    ("nobody joined", RULES, "test_without_anybody_who_joined_the_rebalance_waits_for_static_members"),
    ("votes", MACHINE, "test_the_protocol_with_most_votes_wins"),
    ("members to the leader alone", MACHINE, "test_only_the_leader_is_told_the_members"),
    ("sync in time", MACHINE, "test_members_that_do_not_sync_in_time_are_dropped"),
    ("sync: who, which generation, which protocol", MACHINE, "test_sync_checks_member_generation_and_protocol"),
    ("sync: stored first", MACHINE, "test_assignments_are_stored_before_they_are_told"),
    ("sync: not stored", MACHINE, "test_an_assignment_that_cannot_be_stored_begins_a_rebalance"),
    ("sync: of a past generation", MACHINE, "test_an_assignment_of_a_past_generation_is_not_given"),
    ("heartbeats", MACHINE, "test_heartbeats_in_every_state"),
    ("sessions", MACHINE, "test_a_silent_member_is_lost_and_a_heartbeat_keeps_it"),
    ("sessions of those who wait", MACHINE, "test_a_member_that_waits_is_not_lost"),
    ("leave", MACHINE, "test_leaving"),
    ("leave by instance", MACHINE, "test_a_static_member_leaves_by_its_instance_alone"),
    ("removal answers", RULES, "test_who_is_removed_while_it_waits_is_answered"),
    ("commit", MACHINE, "test_commits"),
    ("commit from outside, metadata bytes", OUTSIDE, "group_commits_from_outside"),
    ("commit of members", OUTSIDE, "group_commits_of_members"),
    ("fetch, also require_stable", OUTSIDE, "group_offset_fetch"),
    ("delete groups", MACHINE, "test_deleting"),
    ("delete offsets", OUTSIDE, "group_offset_deletion"),
    ("retention", RULES, "test_which_offsets_run_out"),
    ("retention of commits with a time", RULES, "test_an_offset_with_a_time_of_its_own_runs_out_then"),
    ("retention ends groups", COORDINATOR, "test_offsets_run_out_and_their_group_with_them"),
    ("offsets go with their topic", STORE, "test_offsets_go_with_their_topic"),
    ("find", OUTSIDE, "group_coordinators"),
    ("list", OUTSIDE, "group_lists"),
    ("describe", OUTSIDE, "group_descriptions"),
    ("move: whoever waits is answered", COORDINATOR, "test_whoever_waits_is_answered_when_the_slot_goes"),
    ("move: members and assignments stay", MACHINE, "test_the_next_coordinator_keeps_members_and_assignments"),
    ("move: what wasn't stored", RULES, "test_what_a_dead_coordinator_never_stored_isnt_known_to_the_next"),
    ("zombies", COORDINATOR, "test_a_zombie_coordinator_writes_nothing"),
    ("coordinators that are killed", REAL, "test_no_record_is_lost_when_coordinators_are_killed"),
]


@pytest.mark.parametrize(("rule", "module", "name"), HELD_BY, ids=[rule for rule, _, _ in HELD_BY])
def test_every_rule_is_held_by_a_test(rule: str, module: str, name: str) -> None:
    assert callable(getattr(importlib.import_module(f"tests.{module}"), name)), rule


def test_wall_clock_and_timers_are_two() -> None:
    machine = ClassicGroup.empty("g", LIMITS, Now(5, 1_000))
    machine.handle(join(), 1, Now(6, 500))
    assert machine.group.since_ms == 1_000, "an id that is given out changes no state"
    assert machine.group.timers.wake_ms == 10_006
