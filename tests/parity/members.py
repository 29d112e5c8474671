"""Group members that parity cases play: each with a connection of its own, because JoinGroup and SyncGroup may wait.

Member ids come back as `parity-<a 1>`: what stands before the UUID as it came, then the player's name and which of its ids it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from re import compile as pattern
from typing import Any

from schemas.kafka.api_keys import ApiKey
from tests.parity.broker import Answer, Broker
from tests.parity.wire import PATIENCE_S, Nothing, Wire, read_answer

UUID_AT_END = pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
SESSION_MS = 10_000
REBALANCE_MS = 10_000
READY_S = 20.0
UNKNOWN_MEMBER_ID = 25
JOIN, SYNC, BEAT, LEAVE = ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.HEARTBEAT, ApiKey.LEAVE_GROUP
Protocols = Sequence[tuple[str, bytes]]


def subscription(*topics: str) -> bytes:
    """A consumer's metadata: version 0, its topics, no user data. Kafka reads it, and stumbles over some that is none."""
    named = b"".join(len(topic).to_bytes(2, "big") + topic.encode() for topic in topics)
    return bytes(2) + len(topics).to_bytes(4, "big") + named + b"\xff\xff\xff\xff"


ONE_PROTOCOL = (("range", subscription("a-topic")),)


class Cast:
    """The members of one group."""

    def __init__(self, broker: Broker, group: str) -> None:
        self.broker = broker
        self.group = group
        self._labels: dict[str, str] = {}
        self._wires: list[Wire] = []
        self._wait_for_coordinator()

    def _wait_for_coordinator(self) -> None:
        """Kafka makes the topic of its offsets when it is first asked, and loads it."""
        deadline = time.monotonic() + READY_S
        asked = {"group_id": self.group, "member_id": "nobody", "generation_id": 1}
        while True:
            self.broker.call(ApiKey.FIND_COORDINATOR, 1, {"key": self.group, "key_type": 0})
            found = self.broker.last["error_code"]
            if not found and self.broker.call(BEAT, 0, asked)["error_code"] == UNKNOWN_MEMBER_ID:
                return
            assert time.monotonic() < deadline, f"{self.broker.name}: no coordinator for {self.group}"
            time.sleep(0.02)

    def member(self, name: str, instance: str | None = None, protocols: Protocols = ONE_PROTOCOL) -> Member:
        """A member that hasn't joined."""
        wire = self.broker.connect()
        self._wires.append(wire)
        return Member(self, wire, name, instance, protocols)

    def ask(self, api: ApiKey, version: int, **values: Any) -> Answer:
        """A request about the group over the broker's own connection."""
        return self.tidy(self.broker.call(api, version, {"group_id": self.group, **values}))

    def describe(self, version: int = 5) -> Answer:
        """The group as DescribeGroups tells it."""
        return self.tidy(self.broker.call(ApiKey.DESCRIBE_GROUPS, version, {"groups": (self.group,)}))["groups"][0]

    def until(self, state: str, members: int) -> None:
        """Wait until the group is in a state with so many members."""
        deadline = time.monotonic() + READY_S
        while True:
            seen = self.describe()
            if (seen["group_state"], len(seen["members"])) == (state, members):
                return
            assert time.monotonic() < deadline, f"{self.broker.name}: {self.group} isn't {state} of {members}: {seen}"
            time.sleep(0.01)

    def close(self) -> None:
        """Close every member's connection."""
        for wire in self._wires:
            wire.close()

    def learn(self, member_id: str, name: str) -> None:
        """Remember whose id it is."""
        if member_id and member_id not in self._labels:
            count = sum(f"<{name} " in label for label in self._labels.values()) + 1
            self._labels[member_id] = UUID_AT_END.sub(f"<{name} {count}>", member_id)

    def tidy(self, value: Answer) -> Answer:
        """Replace ids by what they stand for; members in the order of their names."""
        if isinstance(value, dict):
            return {key: self.tidy(item) for key, item in value.items()}
        if isinstance(value, list):
            tidied = [self.tidy(item) for item in value]
            if tidied and isinstance(tidied[0], dict) and "member_id" in tidied[0] and "error_code" not in tidied[0]:
                tidied.sort(key=lambda item: str(item["member_id"]))
            return tidied
        return self._labels.get(value, value) if isinstance(value, str) else value


class Member:
    """One player. `id` and `generation` are what it was last told."""

    def __init__(self, cast: Cast, wire: Wire, name: str, instance: str | None, protocols: Protocols) -> None:
        self._cast = cast
        self._wire = wire
        self._name = name
        self.instance = instance
        self.protocols = protocols
        self.id = ""
        self.generation = -1
        self._asked: list[tuple[ApiKey, int]] = []

    # anything

    def send(self, api: ApiKey, version: int, values: Mapping[str, Any]) -> None:
        """Ask without waiting."""
        self._asked.append((api, version))
        self._wire.send(self._cast.broker.frame(api, version, {"group_id": self._cast.group, **values}))

    def answer(self, patience_s: float = PATIENCE_S) -> Answer:
        """The next answer."""
        frame = self._wire.receive(patience_s)
        if isinstance(frame, Nothing):
            return frame
        api, version = self._asked.pop(0)
        _, answer = read_answer(api, version, frame)
        if api is JOIN:
            self._cast.learn(answer["member_id"], self._name)
            if answer["error_code"] in (0, 79):
                self.id, self.generation = answer["member_id"], answer["generation_id"]
        return self._cast.tidy(answer)

    def ask(self, api: ApiKey, version: int, **values: Any) -> Answer:
        """Ask and wait."""
        self.send(api, version, values)
        return self.answer()

    # as a member

    def begin_join(self, version: int = 9, **more: Any) -> None:
        """Send JoinGroup."""
        self.send(
            JOIN,
            version,
            {
                "member_id": self.id,
                "group_instance_id": self.instance,
                "session_timeout": SESSION_MS,
                "rebalance_timeout": REBALANCE_MS,
                "protocol_type": "consumer",
                "protocols": [{"name": name, "metadata": metadata} for name, metadata in self.protocols],
                **more,
            },
        )

    def join(self, version: int = 9, **more: Any) -> Answer:
        """JoinGroup, and its answer."""
        self.begin_join(version, **more)
        return self.answer()

    def enter(self, version: int = 9, **more: Any) -> None:
        """Begin to join with an id: the first answer, where there is one, only gives that."""
        if not self.id and self.instance is None and version >= 4:
            self.join(version, **more)
        self.begin_join(version, **more)

    def begin_sync(self, version: int = 5, given: Mapping[str, bytes] | None = None, **more: Any) -> None:
        """Send SyncGroup with assignments by member id."""
        self.send(
            SYNC,
            version,
            {
                "member_id": self.id,
                "group_instance_id": self.instance,
                "generation_id": self.generation,
                "protocol_type": "consumer",
                "protocol_name": self.protocols[0][0],
                "assignments": [{"member_id": key, "assignment": data} for key, data in (given or {}).items()],
                **more,
            },
        )

    def sync(self, version: int = 5, given: Mapping[str, bytes] | None = None, **more: Any) -> Answer:
        """SyncGroup, and its answer."""
        self.begin_sync(version, given, **more)
        return self.answer()

    def beat(self, version: int = 4, **more: Any) -> int:
        """Heartbeat; its error."""
        values = {"member_id": self.id, "group_instance_id": self.instance, "generation_id": self.generation, **more}
        error: int = self.ask(BEAT, version, **values)["error_code"]
        return error

    def leave(self, version: int = 5, **more: Any) -> Answer:
        """LeaveGroup of this member alone."""
        who = {"member_id": self.id, "group_instance_id": self.instance, **more}
        return self.ask(LEAVE, version, **(who if version < 3 else {"members": [who]}))


@contextmanager
def casting(broker: Broker, group: str) -> Iterator[Cast]:
    """The members of a group, whose connections are closed at the end."""
    cast = Cast(broker, group)
    try:
        yield cast
    finally:
        cast.close()


def together(cast: Cast, lead: Member, *others: Member, version: int = 9) -> list[Answer]:
    """All join one generation, `lead` as its leader: alone first, then again when the others wait. The last answers."""
    if not lead.id:
        lead.enter(version)
        assert lead.answer()["error_code"] == 0
        assert lead.sync(min(version, 5))["error_code"] == 0
    for count, member in enumerate(others, 2):
        member.enter(version)
        cast.until("PreparingRebalance", count)
    lead.begin_join(version)
    return [member.answer() for member in (lead, *others)]


def stable(cast: Cast, lead: Member, *others: Member, version: int = 9) -> None:
    """The same, and the leader's assignment: b"part 0" for itself, b"part 1" for the next one ..."""
    together(cast, lead, *others, version=version)
    members = (lead, *others)
    for member in members:
        given = {one.id: b"part %d" % at for at, one in enumerate(members)} if member is lead else None
        member.begin_sync(min(version, 5), given)
    errors = [member.answer()["error_code"] for member in members]
    assert not any(errors), errors
