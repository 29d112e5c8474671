"""Hypothesis plays members, faults, lost replies and coordinators that move against the group's machine.

Held after every step: a partition has at most one owner per generation, the generation never goes back, nobody is answered
twice, an offset that is committed comes from the generation that is current. At the end the faults stop and everybody
who is left settles.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from broker.groups.classic import ClassicGroup
from broker.groups.requests import (
    Commit,
    Effect,
    GroupLimits,
    Heartbeat,
    Join,
    JoinReply,
    Leave,
    Now,
    Reply,
    Request,
    Store,
    Sync,
    SyncReply,
)
from broker.groups.states import State
from schemas.kafka.errors import ErrorCode

PARTITIONS = 4
NETWORK = "the network"
LIMITS = GroupLimits(initial_delay_ms=3_000, new_member_join_ms=60_000)


@dataclass
class Client:
    """A well-behaved consumer: what it knows, and the call it waits for."""

    name: str
    instance: str | None
    protocols: tuple[tuple[str, bytes], ...]
    member_id: str = ""
    generation: int = -1
    leads: tuple[str, ...] | None = None
    waits: int | None = None
    owns: frozenset[int] = frozenset()
    positions: dict[int, int] = field(default_factory=dict)
    synced: bool = False
    gone: bool = False
    asleep: bool = False

    def forget(self) -> None:
        """The group doesn't know it any more: it owns nothing and joins anew."""
        self.member_id, self.generation, self.synced = "", -1, False
        self.owns, self.positions = frozenset(), {}


@dataclass
class Database:
    """What was stored, in order: the last state that landed."""

    state: str | None = None
    landing: list[Store] = field(default_factory=list)


def dealt(members: tuple[str, ...]) -> dict[str, bytes]:
    """The leader's assignment: every partition to one member."""
    shares: dict[str, list[int]] = {member: [] for member in members}
    for partition in range(PARTITIONS):
        shares[members[partition % len(members)]].append(partition)
    return {member: bytes(share) for member, share in shares.items()}


class GroupMachine(RuleBasedStateMachine):
    """See the module."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.ms = 0
        self.machine = ClassicGroup.empty("g", LIMITS, self.now)
        self.database = Database()
        self.hold_writes = False
        self.tokens = 0
        self.names = 0
        self.calls: dict[int, tuple[Client, Request]] = {}
        self.answered: set[int] = set()
        self.under_way: list[tuple[Commit, dict[int, int]]] = []
        self.everybody: list[Client] = []
        self.owners: dict[tuple[int, int], str] = {}
        self.generation = 0
        self.lose_next = 0
        self.committed = dict.fromkeys(range(PARTITIONS), 0)

    @property
    def now(self) -> Now:
        return Now(self.ms, self.ms)

    # What clients do

    @initialize(target=clients, kinds=st.lists(st.booleans(), min_size=3, max_size=3))
    def begin(self, kinds: list[bool]) -> Any:
        """Most runs begin with a group that works."""
        arrived = [self.arrive(static=static, swapped=False) for static in kinds]
        self.everybody_lives(8)
        return multiple(*arrived)

    @rule(target=clients, static=st.booleans(), swapped=st.booleans())
    def arrive(self, static: bool, swapped: bool) -> Client:
        self.names += 1
        both = (("range", b"r"), ("sticky", b"s"))
        name = f"m{self.names}"
        client = Client(name, name if static else None, both[::-1] if swapped else both)
        self.everybody.append(client)
        self.join(client)
        return client

    @rule(client=clients)
    def join(self, client: Client) -> None:
        if client.gone:
            return
        client.owns, client.synced = frozenset(), False
        self.names += 1
        join = Join(
            client.member_id, client.instance, client.name, "/h", 10_000, 20_000, "consumer", client.protocols,
            str(self.names),
        )  # fmt: skip
        self.ask(client, join)

    @rule(client=clients)
    def beat(self, client: Client) -> None:
        if client.generation >= 0 and client.waits is None and not client.gone:
            self.ask(client, Heartbeat(client.member_id, client.generation, client.instance))

    @rule(client=clients)
    def commit(self, client: Client) -> None:
        """Consume one record of each partition that it believes to own, and say so."""
        if client.synced and client.waits is None and not client.gone:
            client.positions = {partition: at + 1 for partition, at in client.positions.items()}
            self.ask(client, Commit(client.member_id, client.generation, client.instance))

    @rule(client=clients)
    def send_slowly(self, client: Client) -> None:
        """A commit that takes its time on the network."""
        if client.synced and not client.gone:
            commit = Commit(client.member_id, client.generation, client.instance)
            self.under_way.append((commit, dict(client.positions)))

    @rule()
    def a_slow_commit_arrives(self) -> None:
        if self.under_way:
            commit, positions = self.under_way.pop(0)
            self.ask(Client(NETWORK, None, (), positions=positions), commit)

    @rule(client=consumes(clients))
    def leave(self, client: Client) -> None:
        if client.member_id and not client.gone:
            self.ask(client, Leave(((client.member_id, client.instance),)))
        client.gone = True

    @rule(target=clients, client=consumes(clients))
    def restart(self, client: Client) -> Client:
        """The process dies; a new one takes its place, with the same instance id where it is static."""
        client.gone = True
        self.names += 1
        name = client.name if client.instance is not None else f"m{self.names}"
        again = Client(name, client.instance, client.protocols)
        self.everybody.append(again)
        self.join(again)
        return again

    @rule(seconds=st.sampled_from([1, 4, 8, 30]))
    def everybody_lives(self, seconds: int) -> None:
        """Clients do what clients do, except those that sleep."""
        for _ in range(seconds):
            for client in self.everybody:
                if not client.asleep:
                    self.live(client)
            self.time_passes(1_000)

    # What goes wrong

    @rule(client=clients, asleep=st.booleans())
    def sleep(self, client: Client, asleep: bool) -> None:
        """A process that is paused believes in what it last heard."""
        client.asleep = asleep

    @rule(client=clients)
    def wake(self, client: Client) -> None:
        """It goes on where it stopped, before it hears of anything."""
        client.asleep = False
        self.commit(client)

    @rule()
    def lose_a_reply(self) -> None:
        self.lose_next += 1

    @rule(hold=st.booleans())
    def database_stalls(self, hold: bool) -> None:
        self.hold_writes = hold
        if not hold:
            self.land()

    @rule()
    def a_write_fails(self) -> None:
        if self.database.landing:
            store = self.database.landing.pop(0)
            self.take(self.machine.stored(store.write, ErrorCode.COORDINATOR_NOT_AVAILABLE, self.now))

    @rule(landed=st.booleans())
    def the_coordinator_moves(self, landed: bool) -> None:
        """The next one starts from what landed; the old one answers whoever waits."""
        landing, self.database.landing = self.database.landing, []
        if landed and landing:
            self.database.state = landing[-1].state
        self.take(self.machine.retire(ErrorCode.NOT_COORDINATOR, self.now))
        if self.database.state is None:
            self.machine = ClassicGroup.empty("g", LIMITS, self.now)
            self.generation = 0
            self.owners.clear()
            return
        self.machine, effects = ClassicGroup.restored("g", self.database.state, LIMITS, self.now)
        # A generation that was begun but never assigned is begun again by the next coordinator.
        self.generation = self.machine.group.generation
        self.take(effects)

    @rule(ms=st.sampled_from([1, 100, 1_000, 3_000, 9_000, 12_000, 25_000]))
    def time_passes(self, ms: int) -> None:
        end = self.ms + ms
        while (wake := self.machine.group.timers.wake_ms) is not None and wake <= end:
            self.ms = max(self.ms, wake)
            self.take(self.machine.tick(self.now))
        self.ms = end

    # How it comes together

    def ask(self, client: Client, request: Request) -> None:
        self.tokens += 1
        token = self.tokens
        self.calls[token] = (client, request)
        if not isinstance(request, Leave):
            client.waits = token
        self.take(self.machine.handle(request, token, self.now))

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Store):
                self.database.landing.append(effect)
                if not self.hold_writes:
                    self.land()
            else:
                self.deliver(effect)

    def land(self) -> None:
        while self.database.landing:
            store = self.database.landing.pop(0)
            self.database.state = store.state
            self.take(self.machine.stored(store.write, 0, self.now))

    def deliver(self, reply: Reply) -> None:
        assert reply.token not in self.answered, "answered twice"
        self.answered.add(reply.token)
        client, request = self.calls.pop(reply.token)
        if isinstance(request, Commit) and reply.answer == 0:
            assert request.generation == self.machine.group.generation, "a commit of a past generation was taken"
            if client.name == NETWORK:
                return  # within a generation Kafka doesn't order a client's commits either
            for partition, position in client.positions.items():
                assert position >= self.committed[partition], "a committed offset went back"
                self.committed[partition] = position
        if client.gone or client.waits != reply.token:
            return
        client.waits = None
        if self.lose_next:
            self.lose_next -= 1  # the client times out and, sooner or later, joins again
            return
        answer = reply.answer
        if isinstance(answer, JoinReply):
            self.told_join(client, answer)
        elif isinstance(answer, SyncReply):
            self.told_sync(client, answer)
        elif isinstance(answer, int):
            self.told(client, answer)

    def told_join(self, client: Client, answer: JoinReply) -> None:
        if answer.error == ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = answer.member_id
        elif answer.error == 0:
            client.member_id, client.generation = answer.member_id, answer.generation
            client.leads = tuple(member for member, _, _ in answer.members) if answer.members else None
            if answer.skip_assignment:
                client.leads = None
        elif answer.error in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID):
            client.forget()
            client.gone = client.gone or answer.error == ErrorCode.FENCED_INSTANCE_ID

    def told_sync(self, client: Client, answer: SyncReply) -> None:
        if answer.error == 0:
            client.synced = True
            client.owns = frozenset(answer.assignment)
            client.positions = {partition: self.committed[partition] for partition in answer.assignment}
            for partition in sorted(client.owns):
                owner = self.owners.setdefault((client.generation, partition), client.name)
                assert owner == client.name, f"partition {partition} has two owners in generation {client.generation}"
        elif answer.error == ErrorCode.UNKNOWN_MEMBER_ID:
            client.forget()
        elif answer.error == ErrorCode.FENCED_INSTANCE_ID:
            client.gone = True

    def told(self, client: Client, error: int) -> None:
        if error == ErrorCode.UNKNOWN_MEMBER_ID:
            client.forget()
        elif error == ErrorCode.FENCED_INSTANCE_ID:
            client.gone = True

    @rule(client=clients)
    def sync(self, client: Client) -> None:
        if client.generation < 0 or client.waits is not None or client.synced or client.gone:
            return
        given = dealt(client.leads) if client.leads else {}
        self.ask(client, Sync(client.member_id, client.generation, client.instance, None, None, tuple(given.items())))

    @invariant()
    def generations_only_grow(self) -> None:
        group = self.machine.group
        assert group.generation >= self.generation
        self.generation = group.generation

    @invariant()
    def bookkeeping_is_whole(self) -> None:
        group = self.machine.group
        assert group.static == {m.instance_id: m.member_id for m in group.members.values() if m.instance_id is not None}
        assert (group.leader in group.members) if group.members else group.leader is None
        assert not set(group.pending) & set(group.members)
        assert all(key == member.member_id for key, member in group.members.items())
        assert group.waiting == sum(member.join is not None for member in group.members.values())
        assert group.support == Counter(name for m in group.members.values() for name in dict(m.protocols))
        if group.state in (State.COMPLETING, State.STABLE):
            assert group.members
            assert all(group.protocol in dict(member.protocols) for member in group.members.values())
        parked = {m.join for m in group.members.values()} | {m.sync for m in group.members.values()}
        assert parked - {None} == set(self.calls), "a parked call was forgotten, or kept after its answer"

    def teardown(self) -> None:
        """The faults stop; every client does what clients do. All settle with all partitions owned."""
        self.lose_next = 0
        self.hold_writes = False
        self.land()
        alive = [client for client in self.everybody if not client.gone]
        for client in alive:
            if client.waits is not None and client.waits not in self.calls:
                client.waits = None
        for client in alive:
            client.asleep = False
        self.everybody_lives(120)
        alive = [client for client in alive if not client.gone]
        group = self.machine.group
        if not alive:
            assert group.state is State.EMPTY
            return
        assert group.state is State.STABLE, f"{group.state} with {len(alive)} clients"
        assert set(group.members) == {client.member_id for client in alive}
        owned = sorted(partition for client in alive for partition in client.owns)
        assert owned == list(range(PARTITIONS)), owned

    def live(self, client: Client) -> None:
        if client.gone or client.waits is not None:
            return
        if client.generation < 0 or not client.member_id:
            self.join(client)
        elif not client.synced:
            before = client.generation
            self.sync(client)
            if client.waits is None and not client.synced and client.generation == before:
                self.join(client)
        else:
            group = self.machine.group
            stale = client.generation != group.generation or group.state is State.PREPARING
            self.beat(client)
            self.commit(client)
            if stale and client.waits is None:
                self.join(client)


GroupMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestGroupMachine = GroupMachine.TestCase
