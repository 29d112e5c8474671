"""The group requests of simulated members, by hand and in both generations of the protocol, as `wire` does for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from typing import NamedTuple

from neve.simulation.group_history import Key
from neve.simulation.wire import Codec, Cursor, TopicMetadata, by_topic

OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 8, 9, 10, 11, 12, 13, 14
CONSUMER = "consumer"
_CLASSIC = {
    OFFSET_COMMIT: 7,
    OFFSET_FETCH: 5,
    FIND_COORDINATOR: 2,
    JOIN_GROUP: 5,
    HEARTBEAT: 3,
    LEAVE_GROUP: 3,
    SYNC_GROUP: 3,
}
_FLEXIBLE = {
    OFFSET_COMMIT: 10,
    OFFSET_FETCH: 10,
    FIND_COORDINATOR: 6,
    JOIN_GROUP: 9,
    HEARTBEAT: 4,
    LEAVE_GROUP: 5,
    SYNC_GROUP: 5,
}
Topics = Mapping[str, TopicMetadata]


class Identity(NamedTuple):
    """Who a member says it is."""

    group: str
    member_id: str
    generation: int
    instance: str | None


class Joined(NamedTuple):
    """The answer to JoinGroup. `members`: id -> metadata, for the leader alone."""

    error: int
    generation: int
    leader: str
    member_id: str
    skip_assignment: bool
    members: dict[str, bytes]


class GroupCodec(Codec):
    """A codec that knows the group requests too."""

    def version(self, api: int) -> int:
        """The version of a group API that this client speaks."""
        return (_FLEXIBLE if self.flexible else _CLASSIC)[api]

    def _blob(self, data: bytes) -> bytes:
        return self._count(len(data)) + data

    def find_coordinator(self, group: str) -> bytes:
        """A FindCoordinator body."""
        if self.flexible:
            return b"\x00" + self._count(1) + self._string(group) + self._tags
        return self._string(group) + b"\x00"

    def coordinator(self, cursor: Cursor) -> tuple[int, str, int]:
        """(error, host, port)."""
        cursor.i32()
        if not self.flexible:
            error = cursor.i16()
            cursor.string()
            cursor.i32()
            found = error, cursor.string(), cursor.i32()
        else:
            assert cursor.count() == 1, "one group was asked for"
            cursor.string()
            cursor.i32()
            host, port = cursor.string(), cursor.i32()
            found = cursor.i16(), host, port
            cursor.string()
            cursor.tags()
        cursor.tags()
        cursor.end()
        return found

    def join_group(
        self, who: Identity, session_ms: int, rebalance_ms: int, protocols: Sequence[tuple[str, bytes]]
    ) -> bytes:
        """A JoinGroup body."""
        out = [self._string(who.group), pack(">ii", session_ms, rebalance_ms), self._string(who.member_id)]
        out += [self._string(who.instance), self._string(CONSUMER), self._count(len(protocols))]
        for name, metadata in protocols:
            out += [self._string(name), self._blob(metadata), self._tags]
        if self.flexible:
            out.append(self._string("simulated"))
        out.append(self._tags)
        return b"".join(out)

    def joined(self, cursor: Cursor) -> Joined:
        """The answer to JoinGroup."""
        cursor.i32()
        error, generation = cursor.i16(), cursor.i32()
        if self.flexible:
            cursor.string()
        cursor.string()
        leader = cursor.string()
        skip = bool(cursor.i8()) if self.flexible else False
        member_id = cursor.string()
        members = {}
        for _member in range(cursor.count()):
            name = cursor.string()
            cursor.string()
            members[name] = cursor.blob()
            cursor.tags()
        cursor.tags()
        cursor.end()
        return Joined(error, generation, leader, member_id, skip, members)

    def sync_group(self, who: Identity, protocol: str, assignments: Mapping[str, bytes]) -> bytes:
        """A SyncGroup body."""
        out = [self._member(who)]
        if self.flexible:
            out += [self._string(CONSUMER), self._string(protocol)]
        out.append(self._count(len(assignments)))
        for member_id, data in assignments.items():
            out += [self._string(member_id), self._blob(data), self._tags]
        out.append(self._tags)
        return b"".join(out)

    def synced(self, cursor: Cursor) -> tuple[int, bytes]:
        """(error, assignment)."""
        cursor.i32()
        error = cursor.i16()
        if self.flexible:
            cursor.string()
            cursor.string()
        data = cursor.blob()
        cursor.tags()
        cursor.end()
        return error, data

    def heartbeat(self, who: Identity) -> bytes:
        """A Heartbeat body."""
        return self._member(who) + self._tags

    def beaten(self, cursor: Cursor) -> int:
        """The error."""
        cursor.i32()
        error = cursor.i16()
        cursor.tags()
        cursor.end()
        return error

    def leave_group(self, who: Identity) -> bytes:
        """A LeaveGroup body for one member."""
        out = [self._string(who.group), self._count(1), self._string(who.member_id), self._string(who.instance)]
        if self.flexible:
            out.append(self._string(None))
        out += [self._tags, self._tags]
        return b"".join(out)

    def left(self, cursor: Cursor) -> int:
        """The error, of the request or of the one member."""
        cursor.i32()
        error = cursor.i16()
        for _member in range(cursor.count()):
            cursor.string()
            cursor.string()
            error = cursor.i16() or error
            cursor.tags()
        cursor.tags()
        cursor.end()
        return error

    def offset_commit(self, who: Identity, offsets: Sequence[tuple[Key, int]], metadata: str, topics: Topics) -> bytes:
        """An OffsetCommit body, all with the same metadata."""
        grouped = by_topic(offsets)
        out = [self._member(who), self._count(len(grouped))]
        for name, parts in grouped:
            out += [self._topic(name, topics), self._count(len(parts))]
            for partition, offset in parts:
                out += [pack(">iqi", partition, offset, -1), self._string(metadata), self._tags]
            out.append(self._tags)
        out.append(self._tags)
        return b"".join(out)

    def committed(self, cursor: Cursor, topics: Topics) -> dict[Key, int]:
        """The error of each partition."""
        cursor.i32()
        out: dict[Key, int] = {}
        for _topic in range(cursor.count()):
            name = self._read_topic(cursor, topics)
            for _partition in range(cursor.count()):
                partition = cursor.i32()
                out[name, partition] = cursor.i16()
                cursor.tags()
            cursor.tags()
        cursor.tags()
        cursor.end()
        return out

    def offset_fetch(self, group: str, keys: Sequence[Key], topics: Topics) -> bytes:
        """An OffsetFetch body for one group."""
        grouped = by_topic([(key, None) for key in keys])
        parts = [self._count(len(grouped))]
        for name, partitions in grouped:
            numbers = [partition for partition, _nothing in partitions]
            parts += [self._topic(name, topics), self._count(len(numbers)), pack(f">{len(numbers)}i", *numbers)]
            parts.append(self._tags)
        if not self.flexible:
            return b"".join([self._string(group), *parts])
        member = self._string(None) + pack(">i", -1)
        return b"".join([self._count(1), self._string(group), member, *parts, self._tags, b"\x00", self._tags])

    def offsets(self, cursor: Cursor, topics: Topics) -> tuple[int, dict[Key, tuple[int, str]]]:
        """(error, key -> (offset, metadata))."""
        cursor.i32()
        if self.flexible:
            assert cursor.count() == 1, "one group was asked for"
            cursor.string()
        out: dict[Key, tuple[int, str]] = {}
        worst = 0
        for _topic in range(cursor.count()):
            name = self._read_topic(cursor, topics)
            for _partition in range(cursor.count()):
                partition, offset = cursor.i32(), cursor.i64()
                cursor.i32()
                out[name, partition] = offset, cursor.string()
                worst = cursor.i16() or worst
                cursor.tags()
            cursor.tags()
        error = cursor.i16()
        if self.flexible:
            cursor.tags()
        cursor.tags()
        cursor.end()
        return error or worst, out

    def _member(self, who: Identity) -> bytes:
        return (
            self._string(who.group)
            + pack(">i", who.generation)
            + self._string(who.member_id)
            + self._string(who.instance)
        )
