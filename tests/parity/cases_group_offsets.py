"""Cases of the APIs that read and change groups from outside: offsets, coordinators, lists, descriptions, deletion."""

from __future__ import annotations

import time
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import UNKNOWN_ID, Answer, Broker, Observations
from tests.parity.cases import case
from tests.parity.cases_groups import NOBODY
from tests.parity.members import READY_S, Cast, casting, stable, subscription

COMMIT, FETCH, FIND = ApiKey.OFFSET_COMMIT, ApiKey.OFFSET_FETCH, ApiKey.FIND_COORDINATOR
DESCRIBE, LIST, DELETE, FORGET = (
    ApiKey.DESCRIBE_GROUPS, ApiKey.LIST_GROUPS, ApiKey.DELETE_GROUPS, ApiKey.OFFSET_DELETE,
)  # fmt: skip
Committed = tuple[int, int] | tuple[int, int, str | None]


def _commit(cast: Cast, version: int, topic: str, *offsets: Committed, **more: Any) -> Answer:
    """Commit (partition, offset[, metadata]) each, from outside of the group where nothing else is said."""
    parts = [
        {
            "partition_index": partition,
            "committed_offset": offset,
            "committed_leader_epoch": 0,
            "committed_metadata": rest[0] if rest else "said",
        }
        for partition, offset, *rest in offsets
    ]
    values = {
        "generation_id_or_member_epoch": -1,
        "retention_time": -1,
        "topics": [{"name": topic, "topic_id": cast.broker.id_of(topic), "partitions": parts}],
        **more,
    }
    return _in_order(cast.ask(COMMIT, version, **values))


def _fetch(cast: Cast, version: int, topics: dict[str, tuple[int, ...]] | None, **more: Any) -> Answer:
    """Fetch offsets of one group; everything where topics are None."""
    asked = None
    if topics is not None:
        asked = [
            {"name": name, "topic_id": cast.broker.id_of(name), "partition_indexes": indexes}
            for name, indexes in topics.items()
        ]
    group = {"group_id": cast.group, "member_id": None, "member_epoch": -1, "topics": asked, **more}
    values = {"groups": [group], "require_stable": False} if version >= 8 else group
    return _in_order(cast.tidy(cast.broker.call(FETCH, version, values)))


def _asked(*groups: tuple[str, Any]) -> dict[str, Any]:
    """OffsetFetch of several (group, topics)."""
    return {"groups": [{"group_id": group, "member_epoch": -1, "topics": topics} for group, topics in groups]}


def _in_order(answer: Answer) -> Answer:
    """Topics and partitions by name and number: all of a group's come in the order of a hash table."""
    for group in answer.get("groups", [answer]):
        group["topics"].sort(key=lambda topic: str(topic.get("name") or topic.get("topic_id")))
        for topic in group["topics"]:
            topic["partitions"].sort(key=lambda part: int(part["partition_index"]))
    return answer


def _by_group(answer: Answer) -> Answer:
    """Groups by id: Kafka answers them by the partition of its offsets topic that they are in."""
    key = "results" if "results" in answer else "groups"
    answer[key].sort(key=lambda group: (group["group_id"], str(group)))
    return answer


@case
def group_offsets_in_every_version(broker: Broker) -> Observations:
    broker.create("offsets", 3)
    with casting(broker, "offsets") as cast:
        for version in range(1, 11):
            yield f"v{version} nothing", _fetch(cast, version, {"offsets": (0, 1)})
            if version >= 2:
                yield f"v{version} nothing at all", _fetch(cast, version, None)
        for version in range(2, 11):
            offsets = ((0, version), (1, 100, None), (2, 7, ""))
            yield f"v{version} commit", _commit(cast, version, "offsets", *offsets)
            for read in range(1, 11):
                yield f"v{version} read in v{read}", _fetch(cast, read, {"offsets": (0, 1, 2)})
            yield f"v{version} all", _fetch(cast, 8, None)
        yield "described", cast.describe()
        yield "a partition twice", _commit(cast, 9, "offsets", (0, 1), (0, 2))
        yield "then", _fetch(cast, 9, {"offsets": (0,)})


@case
def group_commits_from_outside(broker: Broker) -> Observations:
    broker.create("outside", 2)
    with casting(broker, "outside") as cast:
        for version in (2, 5, 9, 10):
            yield f"v{version} unknown topic", _commit(cast, version, "outside-nowhere", (0, 1))
            yield f"v{version} unknown partition", _commit(cast, version, "outside", (0, 1), (2, 1), (-1, 1))
            yield f"v{version} below zero", _commit(cast, version, "outside", (0, -1), (1, -5))
            yield f"v{version} read", _fetch(cast, 9, {"outside": (0, 1, 2), "outside-nowhere": (0,)})
            yield f"v{version} metadata", _commit(cast, version, "outside", (0, 4, "m" * 4096), (1, 5, "m" * 4097))
            yield f"v{version} wide metadata", _commit(cast, version, "outside", (0, 4, "é" * 2048), (1, 5, "é" * 2049))
            yield f"v{version} all wrong", _commit(cast, version, "outside", (7, 4), (1, 5, "m" * 5000))
            yield f"v{version} no partitions", _commit(cast, version, "outside")
            yield f"v{version} read again", _fetch(cast, 10, {"outside": (0, 1, 2)})
        for generation in (0, 1):
            more: dict[str, Any] = {"generation_id_or_member_epoch": generation}
            yield f"generation {generation}", _commit(cast, 9, "outside", (0, 1), **more)
        yield "a member", _commit(cast, 9, "outside", (0, 1), member_id=NOBODY)
        yield "an instance", _commit(cast, 9, "outside", (0, 1), group_instance_id="i")
        yield "no topics", cast.ask(COMMIT, 9, generation_id_or_member_epoch=-1, topics=())
    with casting(broker, "outside-new") as cast:
        for generation in (0, 1):
            more = {"generation_id_or_member_epoch": generation, "member_id": NOBODY}
            for version in (2, 8, 9):
                answer = _commit(cast, version, "outside", (0, 1), (9, 1), **more)
                yield f"new group v{version} generation {generation}", answer
        yield "new group, a member", _commit(cast, 9, "outside", (0, 1), member_id=NOBODY)
        yield "it came", cast.describe()
    with casting(broker, "retention") as cast:
        for version in (2, 4):
            yield f"v{version} retention", _commit(cast, version, "outside", (0, 1), retention_time=3_600_000)


@case
def group_commits_of_members(broker: Broker) -> Observations:
    broker.create("inside", 2)
    with casting(broker, "inside") as cast:
        a, b, i = cast.member("a"), cast.member("b"), cast.member("i", "instance")
        a.enter()
        yield "completing", a.answer()["error_code"]

        def commit(version: int = 9, **more: Any) -> Answer:
            return _commit(cast, version, "inside", (0, 5), **more)

        member: dict[str, Any] = {"member_id": a.id, "generation_id_or_member_epoch": 1}
        yield "before the assignment", commit(**member)
        yield "before the assignment, wrong generation", commit(member_id=a.id, generation_id_or_member_epoch=9)
        yield "before the assignment, from outside", commit()
        a.sync(5, {a.id: b"all"})
        for version in range(2, 10):
            yield f"v{version} stable", commit(version, **member)
            yield f"v{version} wrong generation", commit(version, member_id=a.id, generation_id_or_member_epoch=0)
            yield f"v{version} unknown", commit(version, member_id=NOBODY, generation_id_or_member_epoch=1)
            yield f"v{version} outside", commit(version)
            yield f"v{version} without a generation", commit(version, member_id=a.id)
            yield f"v{version} generation alone", commit(version, generation_id_or_member_epoch=1)
        yield "an instance alone", commit(group_instance_id="x")
        yield "an instance that isn't", commit(**member, group_instance_id="x")
        yield "unknown topic, unknown member", _commit(cast, 9, "inside-nowhere", (0, 1), member_id=NOBODY)
        yield "unknown partition, unknown member", _commit(cast, 9, "inside", (0, 1), (7, 1), member_id=NOBODY)
        yield "long metadata, unknown member", _commit(cast, 9, "inside", (0, 1, "m" * 5000), member_id=NOBODY)
        b.enter()
        cast.until("PreparingRebalance", 2)
        yield "while preparing", commit(**member)
        yield "while preparing, the new one", commit(member_id=b.id, generation_id_or_member_epoch=1)
        a.begin_join()
        a.answer()
        b.answer()
        yield "while completing", commit(member_id=b.id, generation_id_or_member_epoch=2)
        yield "read", _fetch(cast, 9, {"inside": (0, 1)})
        for gone in (a, b):
            gone.leave()
        stable(cast, i)
        static: dict[str, Any] = {"member_id": i.id, "generation_id_or_member_epoch": i.generation}
        yield "static", commit(**static, group_instance_id="instance")
        yield "static, fenced", commit(**static | {"member_id": NOBODY}, group_instance_id="instance")
        yield "static without its instance", commit(**static)


@case
def group_offset_fetch(broker: Broker) -> Observations:
    first, second = broker.create("fetched-a", 2), broker.create("fetched-b")
    with (
        casting(broker, "fetching") as one,
        casting(broker, "fetching-too") as two,
        casting(broker, "fetching-none") as none,
    ):
        _commit(one, 9, "fetched-a", (0, 10), (1, 11))
        _commit(one, 9, "fetched-b", (0, 12))
        _commit(two, 9, "fetched-b", (0, 20))
        for version in (8, 9):
            named = [{"name": "fetched-b", "partition_indexes": (0, 1)}, {"name": "x", "partition_indexes": (0,)}]
            for stable_only in (False, True):
                groups = _asked((one.group, named), (two.group, None), (none.group, None), (one.group, None))
                answer = broker.call(FETCH, version, groups | {"require_stable": stable_only})
                yield f"v{version} several {stable_only}", _in_order(answer)
            yield f"v{version} no group id", _in_order(broker.call(FETCH, version, _asked(("", named), ("", None))))
            yield f"v{version} no groups", broker.call(FETCH, version, {"groups": ()})
            yield f"v{version} no topics", broker.call(FETCH, version, _asked((one.group, ())))
            nothing = [{"name": "fetched-a", "partition_indexes": ()}]
            yield f"v{version} no partitions", broker.call(FETCH, version, _asked((one.group, nothing)))
            yield f"v{version} a topic twice", broker.call(FETCH, version, _asked((one.group, [named[0], named[0]])))
        for epoch, member in ((0, "x"), (5, "x"), (-1, "x"), (5, None), (5, "")):
            for cast in (one, none):
                more = {"member_id": member, "member_epoch": epoch}
                yield f"{cast.group} as {member!r} {epoch}", _fetch(cast, 9, {"fetched-b": (0,)}, **more)
                yield f"{cast.group} all as {member!r} {epoch}", _fetch(cast, 9, None, **more)
        for label, ids in (("unknown", [first, UNKNOWN_ID]), ("none", [None]), ("twice", [second, second])):
            topics = [{"topic_id": topic_id, "partition_indexes": (0, 5)} for topic_id in ids]
            yield f"by id, {label}", broker.call(FETCH, 10, _asked((one.group, topics)))
        for version in range(1, 8):
            for stable_only in (False, True) if version == 7 else (False,):
                values = {"group_id": one.group, "topics": (), "require_stable": stable_only}
                yield f"v{version} no topics {stable_only}", broker.call(FETCH, version, values)
            yield f"v{version} no group", _fetch(one, version, {"fetched-a": (0,)}, group_id="")
        broker.call(ApiKey.DELETE_TOPICS, 6, {"topics": [{"topic_id": first}], "timeout": 10_000})
        broker.forget("fetched-a")
        deadline = time.monotonic() + READY_S
        while len(_fetch(one, 9, None)["groups"][0]["topics"]) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        yield "after the topic", _fetch(one, 9, None)
        yield "after the topic, named", _fetch(one, 9, {"fetched-a": (0,)})


@case
def group_coordinators(broker: Broker) -> Observations:
    with casting(broker, "found") as cast:
        for version in range(7):
            for kind in (0, 2, 3, 7, -1):
                if version == 0 and kind:
                    continue
                several: tuple[tuple[str, ...], ...] = ((cast.group,), ("",), ("one", "two", "one", ""), ())
                for keys in several:
                    if version < 4 and len(keys) != 1:
                        continue
                    asked: dict[str, Any] = {"key_type": kind, "coordinator_keys": keys}
                    if version < 4:
                        asked["key"] = keys[0]
                    yield f"v{version} {kind} {keys}", broker.call(FIND, version, asked)


@case
def group_lists(broker: Broker) -> Observations:
    broker.create("listed-groups")
    names = ("list-a", "list-b", "list-empty", "list-simple")
    with (
        casting(broker, names[0]) as one, casting(broker, names[1]) as two, casting(broker, names[2]) as empty,
        casting(broker, names[3]) as simple,
    ):  # fmt: skip
        stable(one, one.member("a"))
        waiting = two.member("b")
        waiting.enter()
        waiting.answer()
        gone = empty.member("c")
        stable(empty, gone)
        gone.leave()
        _commit(simple, 9, "listed-groups", (0, 1))

        def listed(version: int, **more: Any) -> Answer:
            answer = broker.call(LIST, version, more)
            answer["groups"] = sorted(
                (g for g in answer["groups"] if g["group_id"] in names), key=lambda g: g["group_id"]
            )
            return answer

        for version in range(6):
            yield f"v{version}", listed(version)
        for version in (4, 5):
            for states in (["Stable"], ["stable", "EMPTY"], ["CompletingRebalance"], ["Nonsense"], ["Dead"], [""]):
                yield f"v{version} {states}", listed(version, states_filter=states)
        for types in (["classic"], ["Classic"], ["consumer"], ["nonsense"], ["share", "classic"], [""]):
            yield f"{types}", listed(5, types_filter=types)
        yield "both", listed(5, types_filter=["classic"], states_filter=["Stable"])


@case
def group_descriptions(broker: Broker) -> Observations:
    broker.create("described-topic")
    with casting(broker, "describe") as cast, casting(broker, "describe-simple") as simple:
        a, i = cast.member("a", protocols=(("range", subscription("described-topic")),)), cast.member("i", "instance")
        stable(cast, a, i)
        _commit(simple, 9, "described-topic", (0, 1))
        groups = (cast.group, simple.group, "describe-nobody", "", cast.group)
        for version in range(7):
            for operations in (False, True) if version >= 3 else (False,):
                values = {"groups": groups, "include_authorized_operations": operations}
                yield f"v{version} {operations}", _by_group(cast.tidy(broker.call(DESCRIBE, version, values)))
        yield "none", broker.call(DESCRIBE, 6, {"groups": ()})


@case
def group_deletion(broker: Broker) -> Observations:
    broker.create("offset-deleted-from")
    for version in range(3):
        with casting(broker, f"delete-{version}") as cast, casting(broker, f"delete-simple-{version}") as simple:
            a = cast.member("a")
            groups = (cast.group, simple.group, f"delete-nobody-{version}", "")
            yield f"v{version} before", _by_group(broker.call(DELETE, version, {"groups_names": groups}))
            stable(cast, a)
            _commit(simple, 9, "offset-deleted-from", (0, 1))
            yield f"v{version} members", _by_group(broker.call(DELETE, version, {"groups_names": groups}))
            a.leave()
            twice = (cast.group, cast.group)
            yield f"v{version} twice", broker.call(DELETE, version, {"groups_names": twice})
            yield f"v{version} gone", cast.describe(6)
            yield f"v{version} offsets gone", _fetch(simple, 9, None)
            yield f"v{version} none", broker.call(DELETE, version, {"groups_names": ()})
            pending = cast.member("p")
            pending.join()
            yield f"v{version} with an id given out", broker.call(DELETE, version, {"groups_names": (cast.group,)})
            yield f"v{version} the id", pending.join()


@case
def group_offset_deletion(broker: Broker) -> Observations:
    broker.create("forgotten-a", 2)
    broker.create("forgotten-b")
    asked = [
        {"name": name, "partitions": [{"partition_index": index} for index in indexes]}
        for name, indexes in (("forgotten-a", (0, 7)), ("forgotten-nowhere", (0,)), ("forgotten-b", (0,)))
    ]
    with casting(broker, "forgetting") as cast:
        for group in (cast.group, ""):
            yield f"no group {group!r}", cast.ask(FORGET, 0, group_id=group, topics=asked)
        yield "no group, no topics", cast.ask(FORGET, 0, topics=())
        a = cast.member("a", protocols=(("range", subscription("forgotten-a")),))
        stable(cast, a)
        member = {"member_id": a.id, "generation_id_or_member_epoch": 1}
        for topic in ("forgotten-a", "forgotten-b"):
            _commit(cast, 9, topic, (0, 5), **member)
        yield "subscribed", _in_order(cast.ask(FORGET, 0, topics=asked))
        yield "left", _fetch(cast, 9, None)
        yield "no topics", cast.ask(FORGET, 0, topics=())
        a.begin_join(protocols=[{"name": "range", "metadata": b"\x00"}])
        a.answer()
        a.sync(5, {a.id: b""})
        yield "metadata that isn't a subscription", _in_order(cast.ask(FORGET, 0, topics=asked))
        a.leave()
        yield "empty", _in_order(cast.ask(FORGET, 0, topics=asked))
        yield "nothing left", _fetch(cast, 9, None)
    with casting(broker, "forgetting-connect") as cast:
        a = cast.member("a")
        a.join(protocol_type="connect")
        a.join(protocol_type="connect")
        a.sync(5, {a.id: b""}, protocol_type="connect")
        yield "another type", cast.ask(FORGET, 0, topics=asked)
