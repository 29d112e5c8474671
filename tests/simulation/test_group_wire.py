"""The simulated members' codec agrees with kio, both ways, in both generations; assignments go there and back."""

from __future__ import annotations

import importlib
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from kio.serial import entity_reader, entity_writer

from neve.simulation import group_wire, wire
from neve.simulation.assignor import COOPERATIVE, RANGE, assign, assigned_of, assignment, owned_of, subscription
from neve.simulation.group_wire import GroupCodec, Identity, Joined

TOPICS = {"a": wire.TopicMetadata(0, UUID(int=7), 2), "b": wire.TopicMetadata(0, UUID(int=2**100), 1)}
KEYS = [("a", 0), ("a", 1), ("b", 0)]
WHO = Identity("the group", "member-1", 7, "instance-1")
GENERATIONS = [wire.CLASSIC, wire.FLEXIBLE]


def module(api: int, name: str, codec: GroupCodec, kind: str) -> Any:
    return importlib.import_module(f"kio.schema.{name}.v{codec.version(api)}.{kind}")


def read(api: int, name: str, codec: GroupCodec, body: bytes) -> Any:
    """What kio reads in a request."""
    found = module(api, name, codec, "request")
    kind = getattr(found, "".join(word.title() for word in name.split("_")) + "Request")
    entity, size = entity_reader(kind)(memoryview(body), 0)
    assert size == len(body)
    return entity


def answer(api: int, codec: GroupCodec, entity: Any) -> wire.Cursor:
    """A cursor over what kio writes as an answer."""
    out = BytesIO()
    entity_writer(type(entity))(out, entity)
    return codec.answer(api, bytes(4) + (b"\x00" if codec.flexible else b"") + out.getvalue())


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_requests_are_read_by_kio(generation: wire.Generation) -> None:
    codec = GroupCodec(generation)
    found = read(group_wire.FIND_COORDINATOR, "find_coordinator", codec, codec.find_coordinator("the group"))
    assert (found.coordinator_keys if codec.flexible else (found.key,)) == ("the group",)
    join = read(group_wire.JOIN_GROUP, "join_group", codec, codec.join_group(WHO, 3000, 6000, [(RANGE, b"metadata")]))
    assert (join.group_id, join.member_id, join.group_instance_id) == ("the group", "member-1", "instance-1")
    assert (join.session_timeout, join.rebalance_timeout) == (timedelta(seconds=3), timedelta(seconds=6))
    assert [(each.name, each.metadata) for each in join.protocols] == [(RANGE, b"metadata")]
    sync = read(group_wire.SYNC_GROUP, "sync_group", codec, codec.sync_group(WHO, RANGE, {"member-1": b"share"}))
    assert (sync.generation_id, [(each.member_id, each.assignment) for each in sync.assignments]) == (
        7,
        [("member-1", b"share")],
    )
    beat = read(group_wire.HEARTBEAT, "heartbeat", codec, codec.heartbeat(WHO))
    assert (beat.generation_id, beat.member_id, beat.group_instance_id) == (7, "member-1", "instance-1")
    leave = read(group_wire.LEAVE_GROUP, "leave_group", codec, codec.leave_group(WHO))
    assert [(each.member_id, each.group_instance_id) for each in leave.members] == [("member-1", "instance-1")]


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_offset_requests_are_read_by_kio(generation: wire.Generation) -> None:
    codec = GroupCodec(generation)
    body = codec.offset_commit(WHO, [(("a", 1), 2**40), (("b", 0), 5)], "metadata", TOPICS)
    commit = read(group_wire.OFFSET_COMMIT, "offset_commit", codec, body)
    parts = [(part.partition_index, part.committed_offset) for topic in commit.topics for part in topic.partitions]
    assert parts == [(1, 2**40), (0, 5)]
    assert commit.topics[0].partitions[0].committed_metadata == "metadata"
    fetch = read(group_wire.OFFSET_FETCH, "offset_fetch", codec, codec.offset_fetch("the group", KEYS, TOPICS))
    topics = (fetch.groups[0] if codec.flexible else fetch).topics
    assert [list(topic.partition_indexes) for topic in topics] == [[0, 1], [0]]


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.name)
def test_join_answers_of_kio_are_read(generation: wire.Generation) -> None:
    codec = GroupCodec(generation)
    found = module(group_wire.JOIN_GROUP, "join_group", codec, "response")
    member = found.JoinGroupResponseMember(member_id="m", group_instance_id=None, metadata=b"data")
    more = {"protocol_type": "consumer", "skip_assignment": True} if codec.flexible else {}
    entity = found.JoinGroupResponse(
        throttle_time=timedelta(0),
        error_code=found.ErrorCode(27),
        generation_id=9,
        protocol_name=RANGE,
        leader="m",
        member_id="n",
        members=(member,),
        **more,
    )
    cursor = answer(group_wire.JOIN_GROUP, codec, entity)
    assert codec.joined(cursor) == Joined(27, 9, "m", "n", codec.flexible, {"m": b"data"})


def test_subscriptions_and_assignments_come_back() -> None:
    assert owned_of(subscription(["a", "topic"], KEYS)) == KEYS
    assert assigned_of(assignment(KEYS)) == KEYS
    assert assigned_of(b"") == []


def test_range_gives_each_partition_once() -> None:
    shares = assign(RANGE, {"y": subscription(["a"], []), "x": subscription(["a"], [])}, KEYS)
    assert shares == {"x": [("a", 0), ("b", 0)], "y": [("a", 1)]}


def test_cooperative_takes_away_first_and_gives_in_the_next_generation() -> None:
    before = {"x": KEYS, "y": []}
    first = assign(COOPERATIVE, {name: subscription(["a"], keys) for name, keys in before.items()}, KEYS)
    assert first == {"x": KEYS[:2], "y": []}
    second = assign(COOPERATIVE, {name: subscription(["a"], keys) for name, keys in first.items()}, KEYS)
    assert second == {"x": KEYS[:2], "y": KEYS[2:]}
