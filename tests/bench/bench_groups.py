"""How long a consumer group of 100 members takes to settle when one leaves, and when one comes; Kafka and Neve side by side.

    python -m tests.bench.bench_groups [--members 100] [--rounds 7]

Members are raw connections that answer at once, so the coordinator's own time is measured: from the LeaveGroup (or the
newcomer's JoinGroup) over one heartbeat of everybody, everybody's JoinGroup and SyncGroup, to the last assignment. Both
brokers have warmed up with three such rounds; rounds alternate between them. Neve runs on a local folder, once without
flushing (as Kafka) and once as shipped, where an assignment is on disk before it is told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import struct
import time
from contextlib import ExitStack

from tests.bench.servers import kafka_server, neve_server

JOIN, HEARTBEAT, LEAVE, SYNC, FIND = 11, 12, 13, 14, 10
GROUP = "bench"
TIMEOUT_S = 60.0
UNKNOWN_MEMBER_ID, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 25, 27, 79
WARM_ROUNDS = 3


def text(value: str | None) -> bytes:
    """A string of the old wire format."""
    return b"\xff\xff" if value is None else struct.pack(">h", len(value)) + value.encode()


def data(value: bytes) -> bytes:
    """Bytes of the old wire format."""
    return struct.pack(">i", len(value)) + value


class Answer:
    """A response read from its beginning."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._at = 4

    def number(self, size: int) -> int:
        """The next integer."""
        self._at += size
        return int.from_bytes(self._frame[self._at - size : self._at], "big", signed=True)

    def text(self) -> str:
        """The next string."""
        size = max(self.number(2), 0)
        self._at += size
        return self._frame[self._at - size : self._at].decode()

    def skip_bytes(self) -> None:
        """Leave out the next bytes."""
        self._at += max(self.number(4), 0)


class Member:
    """One member on its own connection."""

    def __init__(self) -> None:
        self.id = ""
        self.generation = -1
        self.leads: list[str] = []
        """The members it has to assign to, where it leads."""
        self.has_part = False

    async def connect(self, bootstrap: str) -> None:
        """Open the connection."""
        host, _, port = bootstrap.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))

    async def _call(self, key: int, version: int, body: bytes) -> Answer:
        frame = struct.pack(">hhi", key, version, 1) + text("bench") + body
        self._writer.write(struct.pack(">i", len(frame)) + frame)
        async with asyncio.timeout(TIMEOUT_S):
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            return Answer(await self._reader.readexactly(size))

    async def coordinator_ready(self) -> None:
        """Wait until the broker coordinates the group."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            found = await self._call(FIND, 0, text(GROUP))
            if not found.number(2) and await self.heartbeat() == UNKNOWN_MEMBER_ID:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError("no coordinator")

    async def join(self) -> None:
        """JoinGroup version 5, with the id it takes first."""
        while True:
            protocol = text("range") + data(bytes(2) + struct.pack(">i", 1) + text("topic") + b"\xff\xff\xff\xff")
            body = text(GROUP) + struct.pack(">ii", 60_000, 60_000) + text(self.id) + text(None) + text("consumer")
            answer = await self._call(JOIN, 5, body + struct.pack(">i", 1) + protocol)
            answer.number(4)
            error, self.generation = answer.number(2), answer.number(4)
            _, leader, self.id = answer.text(), answer.text(), answer.text()
            if error == MEMBER_ID_REQUIRED:
                continue
            assert error == 0, error
            self.leads = []
            if leader == self.id:
                for _ in range(answer.number(4)):
                    self.leads.append(answer.text())
                    answer.text()
                    answer.skip_bytes()
            return

    async def sync(self) -> int:
        """SyncGroup version 3; the leader gives everybody 40 bytes."""
        given = b"".join(text(member) + data(b"a" * 40) for member in self.leads)
        body = text(GROUP) + struct.pack(">i", self.generation) + text(self.id) + text(None)
        answer = await self._call(SYNC, 3, body + struct.pack(">i", len(self.leads)) + given)
        answer.number(4)
        return answer.number(2)

    async def heartbeat(self) -> int:
        """Heartbeat version 3; its error."""
        body = text(GROUP) + struct.pack(">i", self.generation) + text(self.id) + text(None)
        answer = await self._call(HEARTBEAT, 3, body)
        answer.number(4)
        return answer.number(2)

    async def leave(self) -> None:
        """LeaveGroup version 3."""
        answer = await self._call(LEAVE, 3, text(GROUP) + struct.pack(">i", 1) + text(self.id) + text(None))
        answer.number(4)
        assert answer.number(2) == 0
        self.id = ""


class Crowd:
    """The members of one broker's group."""

    def __init__(self, bootstrap: str, count: int) -> None:
        self._bootstrap = bootstrap
        self.members = [Member() for _ in range(count)]

    async def begin(self) -> None:
        """Connect everybody and settle for the first time."""
        for member in self.members:
            await member.connect(self._bootstrap)
        await self.members[0].coordinator_ready()
        await asyncio.gather(*(self._live_until_settled(member) for member in self.members))

    async def _live_until_settled(self, member: Member) -> None:
        """As a client does: join, sync, and again when a heartbeat says so, until everybody is in one generation."""
        while not self._settled():
            member.has_part = False
            await member.join()
            member.has_part = await member.sync() == 0
            while member.has_part and not self._settled() and await member.heartbeat() == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def _settled(self) -> bool:
        return all(member.has_part for member in self.members) and len({m.generation for m in self.members}) == 1

    async def _follow(self, member: Member) -> None:
        assert await member.heartbeat() == REBALANCE_IN_PROGRESS
        await member.join()
        assert await member.sync() == 0

    async def after_leave(self) -> float:
        """Seconds from one member's LeaveGroup to the last assignment of the others."""
        leaving, *others = self.members
        began = time.perf_counter()
        await leaving.leave()
        await asyncio.gather(*(self._follow(member) for member in others))
        return time.perf_counter() - began

    async def after_join(self) -> float:
        """Seconds from its coming back, as the last of the members, to everybody's assignment."""
        coming, *others = self.members
        began = time.perf_counter()
        joining = asyncio.ensure_future(self._enter(coming))
        while await others[0].heartbeat() != REBALANCE_IN_PROGRESS:
            pass
        await asyncio.gather(joining, *(self._follow(member) for member in others))
        took = time.perf_counter() - began
        self.members = [*others, coming]
        return took

    @staticmethod
    async def _enter(member: Member) -> None:
        await member.join()
        assert await member.sync() == 0


async def compare(servers: dict[str, str], count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians in ms by server, and the ratios of each to the first one."""
    crowds = {name: Crowd(bootstrap, count) for name, bootstrap in servers.items()}
    for crowd in crowds.values():
        await crowd.begin()
    took: dict[str, dict[str, list[float]]] = {name: {"leave": [], "join": []} for name in crowds}
    for number in range(WARM_ROUNDS + rounds):
        for name, crowd in crowds.items():
            pair = await crowd.after_leave(), await crowd.after_join()
            if number >= WARM_ROUNDS:
                took[name]["leave"].append(pair[0])
                took[name]["join"].append(pair[1])
    first = next(iter(took.values()))
    return {
        name: {
            **{f"{what}_ms": round(1000 * statistics.median(seconds), 1) for what, seconds in found.items()},
            **{
                f"{what}_ratio": round(statistics.median(a / b for a, b in zip(seconds, first[what], strict=True)), 2)
                for what, seconds in found.items()
            },
        }
        for name, found in took.items()
    }


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    delay = {"NEVE_GROUP_INITIAL_REBALANCE_DELAY_MS": "0"}
    with ExitStack() as stack:
        servers = [
            stack.enter_context(kafka_server()),
            stack.enter_context(neve_server(extra=delay)),
            stack.enter_context(neve_server(fsync="always", extra=delay, name="neve, fsync=always")),
        ]
        found = asyncio.run(compare({server.name: server.bootstrap for server in servers}, args.members, args.rounds))
    print(json.dumps({"members": args.members, "rounds": args.rounds, **found}))


if __name__ == "__main__":
    main()
