"""A simulated group member: joins, gets its assignment, reads on from what is committed, commits, and ends in bad ways.

One *life* of a member begins without a member id and ends by leaving, silently, or fenced. In between it may stand still
longer than its session and then commit as if nothing had happened, join late in a rebalance, and let commits of its last
generation or its last life arrive behind the next assignment, as requests do that went over another connection.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

from neve.simulation.assignor import COOPERATIVE, assign, assigned_of, assignment, subscription
from neve.simulation.batches import decode
from neve.simulation.group_history import Commit, Committed, Key, Synced, mark_of, metadata_of
from neve.simulation.group_rules import (
    FENCED_INSTANCE_ID,
    GROUP_ID_NOT_FOUND,
    ILLEGAL_GENERATION,
    NOT_COORDINATOR,
    REBALANCING,
    UNKNOWN_MEMBER_ID,
)
from neve.simulation.group_wire import (
    FIND_COORDINATOR,
    HEARTBEAT,
    JOIN_GROUP,
    LEAVE_GROUP,
    OFFSET_COMMIT,
    OFFSET_FETCH,
    SYNC_GROUP,
    GroupCodec,
    Identity,
)
from neve.simulation.history import History, Poll
from neve.simulation.session import CONNECTION_FAILURES, Dialer, Session
from neve.simulation.wire import FETCH, LIST_OFFSETS, Cursor, Fetched

LOADING, NOT_AVAILABLE, MEMBER_ID_REQUIRED = 14, 15, 79
OFFSET_OUT_OF_RANGE, EARLIEST = 1, -2
CALM_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class MemberPlan:
    """What one member does. Times in the names' units; shares are per turn unless said otherwise."""

    group: str
    protocol: str
    static: bool
    session_ms: int
    rebalance_ms: int
    patient: bool
    """Waits for JoinGroup and SyncGroup as long as the connection lives, instead of a little longer than the rebalance."""
    request_timeout_s: float
    life_s: tuple[float, float]
    gap_s: tuple[float, float]
    """Between two lives."""
    leave_share: float
    """Of the ends of lives: with a LeaveGroup."""
    commit_share: float
    stall_share: float
    slow_share: float
    """Of rebalances: joins only after the rebalance timeout, sending heartbeats until then."""
    late_share: float
    """Of assignments: a commit of the generation before arrives now."""
    fetch_bytes: int = 4000


class Member:
    """One member of one group, through all its lives. `calm` ends its bad habits, `finished` the member."""

    def __init__(
        self, name: str, plan: MemberPlan, dialer: Dialer, history: History, keys: list[Key], rng: random.Random
    ) -> None:
        self.plan = plan
        self.calm = False
        self.finished = False
        self.identity = Identity(plan.group, "", -1, f"{name}-static" if plan.static else None)
        self._name = name
        self._dialer = dialer
        self._history = history
        self._keys = keys
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._life = 0
        self._marks = 0
        self._assignments = 0
        self._generation_last = -1
        """Of the last assignment: positions outlive a rebalance only into the generation right behind it."""
        self._joining = True
        self._ends_at_s = 0.0
        self._beat_at_s = 0.0
        self._positions: dict[Key, int] = {}
        self._committed: dict[Key, int] = {}
        self._before: tuple[str, Identity, dict[Key, int]] | None = None
        """Process, identity and positions of the generation before."""
        self._data: Session | None = None
        self._coordinator: Session | None = None

    # What the run looks at

    @property
    def owned(self) -> list[Key]:
        """The partitions of its present generation; none while it joins."""
        return [] if self._joining else sorted(self._positions)

    @property
    def settled(self) -> bool:
        """In a generation, with everything read that is known written, and committed."""
        return not self._joining and all(
            position >= self._history.floor(key) and self._committed.get(key) == position
            for key, position in self._positions.items()
        )

    @property
    def _timeout_s(self) -> float:
        return max(self.plan.request_timeout_s, CALM_TIMEOUT_S) if self.calm else self.plan.request_timeout_s

    def __str__(self) -> str:
        step = "joining" if self._joining else "settled" if self.settled else "reading"
        return f"{self._process} ({step}, generation {self.identity.generation}, owns {self.owned})"

    def write_into(self, history: History) -> None:
        """What it does from now on belongs to this history."""
        self._history = history
        self._dialer.write_into(history)

    # Lives

    async def run(self) -> None:
        """One life after the other."""
        while not self.finished:
            self._begin()
            await self._live()
            self._remember()
            self._drop_sessions()
            if not self.calm:
                await asyncio.sleep(self._rng.uniform(*self.plan.gap_s))

    def _begin(self) -> None:
        self._life += 1
        self._process = f"{self._name}.{self._life}"
        self.identity = self.identity._replace(member_id="", generation=-1)
        self._lose_all()
        self._ends_at_s = self._loop.time() + self._rng.uniform(*self.plan.life_s)

    def _over(self) -> bool:
        return self.finished or (not self.calm and self._loop.time() >= self._ends_at_s)

    async def _live(self) -> None:
        while not self._over():
            try:
                if self._joining:
                    await self._join()
                else:
                    await self._turn()
            except CONNECTION_FAILURES:
                await asyncio.sleep(self._rng.uniform(0.02, 0.2))
            except _FencedError:
                return
        if self.finished or self._rng.random() < self.plan.leave_share:
            await self._leave()

    def _lose_all(self) -> None:
        """Another member may have the partitions now."""
        self._joining = True
        self._generation_last = -1
        self._positions, self._committed = {}, {}

    def _remember(self) -> None:
        """What a commit that is still on its way says."""
        if self._positions and not self._joining:
            self._before = (self._process, self.identity, dict(self._positions))

    # One turn

    async def _turn(self) -> None:
        """Heartbeat if it is due, read, commit."""
        rng, plan = self._rng, self.plan
        if not self.calm and rng.random() < plan.stall_share:
            await asyncio.sleep(plan.session_ms / 1000 * rng.uniform(0.8, 2.5))
            if rng.random() < 0.7:
                await self._commit_all()
                return
        if self._loop.time() >= self._beat_at_s:
            await self._beat()
            if self._joining:
                return
        if self._positions:
            await self._poll()
        else:
            await asyncio.sleep(rng.uniform(0.1, 0.3))
        if self.calm or rng.random() < plan.commit_share:
            await self._commit_all()

    async def _beat(self) -> None:
        codec, session = await self._to_coordinator()
        cursor = await self._ask(session, HEARTBEAT, codec.heartbeat(self.identity), self._timeout_s)
        self._beat_at_s = self._loop.time() + self.plan.session_ms / 3500
        error = codec.beaten(cursor)
        if error == REBALANCING:
            await self._before_rebalance()
        elif error:
            await self._told("heartbeat", error)

    async def _before_rebalance(self) -> None:
        """Eager members give everything up, mostly after a last commit; slow ones take their time."""
        if self._rng.random() < 0.7:
            await self._commit_all()
        if not self.calm and self._rng.random() < self.plan.slow_share:
            until_s = self._loop.time() + self.plan.rebalance_ms / 1000 * 1.3
            while self._loop.time() < until_s and not self.calm:
                await asyncio.sleep(self.plan.session_ms / 3500)
                codec, session = await self._to_coordinator()
                cursor = await self._ask(session, HEARTBEAT, codec.heartbeat(self.identity), self._timeout_s)
                error = codec.beaten(cursor)
                if error not in (0, REBALANCING):
                    await self._told("heartbeat", error)
                    return
        self._rejoin()

    def _rejoin(self) -> None:
        self._remember()
        self._joining = True
        if self.plan.protocol != COOPERATIVE:
            self._lose_all()

    async def _told(self, api: str, error: int) -> None:
        """Do what a client does about an error of the coordinator."""
        self._history.told(api, error)
        if error == FENCED_INSTANCE_ID:
            raise _FencedError
        if error in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, GROUP_ID_NOT_FOUND):
            self._remember()
            member_id = self.identity.member_id if error == ILLEGAL_GENERATION else ""
            self.identity = self.identity._replace(member_id=member_id, generation=-1)
            self._lose_all()
        elif error == REBALANCING:
            self._rejoin()
        elif error == LOADING:
            await asyncio.sleep(self._rng.uniform(0.05, 0.2))
        else:
            assert error in (NOT_COORDINATOR, NOT_AVAILABLE), f"{api} was answered with {error}"
            self._forget_coordinator()
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))

    # Joining

    async def _join(self) -> None:
        plan = self.plan
        codec, session = await self._to_coordinator()
        owned = sorted(self._positions) if plan.protocol == COOPERATIVE else []
        topics = sorted({key[0] for key in self._keys})
        protocols = [(plan.protocol, subscription(topics, owned))]
        body = codec.join_group(self.identity, plan.session_ms, plan.rebalance_ms, protocols)
        wait_s = 600.0 if plan.patient else plan.rebalance_ms / 1000 + self._rng.choice((0.5, 5.0))
        if not plan.patient and not self.calm and self._rng.random() < 0.3:  # dies while it waits
            wait_s = min(wait_s, max(self._ends_at_s - self._loop.time(), 0.05))
        joined = codec.joined(await self._ask(session, JOIN_GROUP, body, wait_s))
        if joined.error == MEMBER_ID_REQUIRED:
            self.identity = self.identity._replace(member_id=joined.member_id)
            return
        if joined.error:
            await self._told("join_group", joined.error)
            return
        who = self.identity._replace(member_id=joined.member_id, generation=joined.generation)
        assignments: dict[str, bytes] = {}
        if joined.leader == joined.member_id and not joined.skip_assignment:
            shares = assign(plan.protocol, joined.members, self._keys)
            assignments = {member_id: assignment(keys) for member_id, keys in shares.items()}
        self.identity = who
        body = codec.sync_group(who, plan.protocol, assignments)
        error, data = codec.synced(await self._ask(session, SYNC_GROUP, body, wait_s))
        if error:
            await self._told("sync_group", error)
            return
        await self._take(assigned_of(data))

    async def _take(self, keys: list[Key]) -> None:
        who = self.identity
        owner = who.instance or who.member_id
        self._history.groups.synced.append(
            Synced(self._loop.time(), who.group, who.generation, owner, tuple(sorted(keys)))
        )
        self._assignments += 1
        kept = self._positions if who.generation == self._generation_last + 1 else {}
        revoked = [key for key in self._positions if key not in keys]
        self._positions = {key: position for key, position in kept.items() if key in keys}
        self._committed = {key: offset for key, offset in self._committed.items() if key in self._positions}
        self._beat_at_s = self._loop.time()
        wanted = [key for key in keys if key not in self._positions]
        fetched = await self._fetch_offsets(wanted) if wanted else {}
        for key in wanted:
            offset = fetched[key]
            self._positions[key] = max(offset, 0)
            if offset >= 0:
                self._committed[key] = offset
        self._generation_last = who.generation
        self._joining = False
        if revoked and self.plan.protocol == COOPERATIVE:  # first of all: the late commit may end with its connection
            self._rejoin()
        if self._before is not None:
            (process, before, positions), self._before = self._before, None
            moved = (before.member_id, before.generation) != (who.member_id, who.generation)
            if moved and self._rng.random() < self.plan.late_share:
                await self._late_commit(process, before, positions)

    async def _late_commit(self, process: str, who: Identity, positions: dict[Key, int]) -> None:
        """It was on its way all the time. What it is answered is nobody's business but the checker's."""
        codec, session = await self._to_coordinator()
        await self._send_commit(codec, session, process, who, positions)

    async def _fetch_offsets(self, keys: list[Key]) -> dict[Key, int]:
        """What is committed. Asks a few times, then the member joins again."""
        for _attempt in range(4):
            try:
                return await self._fetch_once(keys)
            except CONNECTION_FAILURES:
                await asyncio.sleep(self._rng.uniform(0.02, 0.2))
        return await self._fetch_once(keys)

    async def _fetch_once(self, keys: list[Key]) -> dict[Key, int]:
        codec, session = await self._to_coordinator()
        sent_s = self._loop.time()
        body = codec.offset_fetch(self.plan.group, keys, session.topics)
        cursor = await self._ask(session, OFFSET_FETCH, body, self._timeout_s)
        error, offsets = codec.offsets(cursor, session.topics)
        if error:
            await self._told("offset_fetch", error)
            raise ConnectionError(f"OffsetFetch error {error}")
        for key, (offset, metadata) in offsets.items():
            self._history.groups.committed.append(
                Committed(sent_s, self._loop.time(), self.plan.group, key, offset, mark_of(metadata))
            )
        return {key: offset for key, (offset, _metadata) in offsets.items()}

    # Reading

    async def _poll(self) -> None:
        session = await self._to_data()
        codec, history = session.codec, self._history
        asked = list(self._positions.items())
        self._rng.shuffle(asked)
        floors = {key: history.floor(key) for key, _position in asked}
        starts = {key: history.agent_starts.get((session.agent, key), 0) for key, _position in asked}
        wait_ms = max(50, min(500, self.plan.session_ms // 6))
        body = codec.fetch(asked, wait_ms, self.plan.fetch_bytes, self.plan.fetch_bytes, session.topics)
        try:
            cursor = await session.call(FETCH, codec.generation.fetch, body, self._timeout_s)
            error, parts = codec.fetched(cursor, session.topics)
            if error:
                raise ConnectionError(f"Fetch error {error}")
            lost = [key for key, part in parts.items() if self._read(session, key, part, floors[key], starts[key])]
            if lost:
                await self._reset(session, lost)
        except CONNECTION_FAILURES:
            session.abort()
            self._data = None
            self._dialer.leave_home()
            raise

    def _read(self, session: Session, key: Key, part: Fetched, floor: int, start_floor: int) -> bool:
        """Take one partition's records; True where the position is out of range."""
        asked = self._positions[key]
        decoded = decode(part.records, asked)
        self._history.polled(
            Poll(
                self._loop.time(),
                f"{self._process}.{self._assignments}",
                session.name,
                key,
                asked,
                part.error,
                part.high_watermark,
                part.log_start,
                decoded.records,
                floor,
                decoded.batches,
                decoded.corrupt,
                start_floor,
                self.plan.group,
            )
        )
        if part.error:
            self._history.told("fetch", part.error)
        elif decoded.records:
            self._positions[key] = decoded.records[-1].offset + 1
        return part.error == OFFSET_OUT_OF_RANGE

    async def _reset(self, session: Session, keys: list[Key]) -> None:
        codec = session.codec
        body = codec.list_offsets([(key, EARLIEST) for key in keys], session.topics)
        cursor = await session.call(LIST_OFFSETS, codec.generation.list_offsets, body, self._timeout_s)
        for key, answer in codec.listed(cursor).items():
            if answer.error:
                raise ConnectionError(f"ListOffsets error {answer.error}")
            self._positions[key] = answer.offset
            self._history.start_told(key, answer.offset)

    # Committing

    async def _commit_all(self) -> None:
        offsets = {key: at for key, at in self._positions.items() if self._committed.get(key) != at}
        if not offsets:
            return
        codec, session = await self._to_coordinator()
        error = await self._send_commit(codec, session, self._process, self.identity, offsets)
        if not error:
            self._committed.update(offsets)
        else:
            await self._told("offset_commit", error)

    async def _send_commit(
        self, codec: GroupCodec, session: Session, process: str, who: Identity, offsets: dict[Key, int]
    ) -> int:
        self._marks += 1
        mark = f"{process}#{self._marks}"
        commits = self._history.groups.commits
        parts = tuple(sorted(offsets.items()))
        commit = commits[mark] = Commit(mark, who.group, process, who.generation, self._loop.time(), parts)
        body = codec.offset_commit(who, parts, metadata_of(mark, who.generation, session.agent), session.topics)
        cursor = await self._ask(session, OFFSET_COMMIT, body, self._timeout_s)
        errors = codec.committed(cursor, session.topics)
        assert sorted(errors) == sorted(offsets), "answers must name the partitions asked for"
        worst = max(errors.values())
        if min(errors.values()) == worst:
            commits[mark] = replace(commit, answered=self._loop.time(), error=worst)
        return worst

    async def _leave(self) -> None:
        if not self.identity.member_id:
            return
        try:
            codec, session = await self._to_coordinator()
            cursor = await self._ask(session, LEAVE_GROUP, codec.leave_group(self.identity), 2.0)
            error = codec.left(cursor)
            if error:
                self._history.told("leave_group", error)
        except CONNECTION_FAILURES:
            pass

    # Connections

    async def _ask(self, session: Session, api: int, body: bytes, timeout_s: float) -> Cursor:
        codec = session.codec
        assert isinstance(codec, GroupCodec), "members speak the group APIs"
        try:
            return await session.call(api, codec.version(api), body, timeout_s)
        except CONNECTION_FAILURES:
            self._forget_coordinator()
            raise

    async def _to_data(self) -> Session:
        if self._data is None or not self._data.alive:
            self._data = await self._dialer.connect()
        return self._data

    async def _to_coordinator(self) -> tuple[GroupCodec, Session]:
        """The coordinator as any agent tells it. Raises one of CONNECTION_FAILURES where none is known now."""
        session = self._coordinator
        if session is None or not session.alive:
            session = self._coordinator = await self._dialer.to(await self._find())
        assert isinstance(session.codec, GroupCodec), "members speak the group APIs"
        return session.codec, session

    async def _find(self) -> tuple[str, int]:
        data = await self._to_data()
        codec = data.codec
        assert isinstance(codec, GroupCodec), "members speak the group APIs"
        try:
            cursor = await data.call(
                FIND_COORDINATOR,
                codec.version(FIND_COORDINATOR),
                codec.find_coordinator(self.plan.group),
                self._timeout_s,
            )
        except CONNECTION_FAILURES:
            self._data = None
            self._dialer.leave_home()
            raise
        error, host, port = codec.coordinator(cursor)
        if error:
            self._history.told("find_coordinator", error)
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))
            raise ConnectionError(f"FindCoordinator error {error}")
        return host, port

    def _forget_coordinator(self) -> None:
        if self._coordinator is not None:
            self._coordinator.abort()
            self._coordinator = None

    def _drop_sessions(self) -> None:
        self._forget_coordinator()
        if self._data is not None:
            self._data.abort()
            self._data = None


class _FencedError(Exception):
    """Another life of this static member has taken over."""
