"""Writers, readers and perhaps a group around one topic, in rounds: write, pause, read to the end, judge, forget.

The pause at the end of a round lasts until everything acknowledged was read by every reader, which is what makes a round a
history that can be judged by itself. A round that doesn't get there within its bound is a finding, and the last one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from broker.services import Clock
from neve.simulation.checker import Verdict, check
from neve.simulation.consumer import Consumer
from neve.simulation.group_history import Settling
from neve.simulation.history import History, Key
from neve.simulation.member import Member
from neve.simulation.session import Address, Dialer
from neve.workload.clients import CONSUMER, PacedProducer, dialer, member_plan, producer_plan
from neve.workload.ledger import Ledger, written_again
from neve.workload.plan import ROUND_RECORDS, Outcome, WorkloadPlan
from neve.workload.rounds import following

LOOK_S = 0.05
CLIENT_FAILED = "client_failed"
STUCK = "stuck"


class Cohort:
    """One topic's clients. `run` is the whole of it; what it finds goes into `outcome`."""

    def __init__(
        self, plan: WorkloadPlan, topic: str, agents: Sequence[Address], clock: Clock, outcome: Outcome, *, members: int
    ) -> None:
        self.topic = topic
        self.keys: list[Key] = [(topic, partition) for partition in range(plan.partitions)]
        self.history = History(dict.fromkeys(self.keys, False))
        self.history.groups.landings_known = False
        self.ledger = Ledger()
        self.agents = list(agents)
        self._plan = plan
        self._clock = clock
        self._outcome = outcome
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._ends_s = self._began_s
        self._dialers: list[Dialer] = []
        seed = f"{plan.seed} {topic}"
        self._writers = [self._writer(f"writer-{at}", seed, at) for at in range(1 if members else plan.writers)]
        extra = 0 if members else round(plan.writers * (plan.spike - 1))
        self._spiking = [self._writer(f"spike-{at}", seed, at) for at in range(extra)]
        self._readers = [self._reader(f"reader-{at}", seed, at) for at in range(plan.readers)]
        self._members = [self._member(f"member-{at}", seed, at) for at in range(members)]
        self._tasks: list[asyncio.Task[None]] = []

    # Clients

    def _rng(self, seed: str, name: str) -> random.Random:
        return random.Random(f"{seed} {name}")

    def _dialer(self, name: str, seed: str, at: int) -> Dialer:
        made = dialer(name, seed, self.history, self.agents, self.topic, flexible=at % 2 == 0)
        self._dialers.append(made)
        return made

    def _writer(self, name: str, seed: str, at: int) -> PacedProducer:
        plan = self._plan
        found = self._dialer(name, seed, at)
        chosen = producer_plan(plan.delivery_s, plan.value_bytes_max)
        writer = PacedProducer(name, chosen, found, self.history, self.keys, self._clock, self._rng(seed, name))
        rate = plan.rate / plan.writers
        writer.rate = lambda: rate
        return writer

    def _reader(self, name: str, seed: str, at: int) -> Consumer:
        found = self._dialer(name, seed, at)
        return Consumer(name, CONSUMER, found, self.history, self.keys, self._rng(seed, name))

    def _member(self, name: str, seed: str, at: int) -> Member:
        found = self._dialer(name, seed, at)
        plan = member_plan(f"{self.topic}-group", cooperative=bool(self._plan.seed % 2))
        return Member(name, plan, found, self.history, self.keys, self._rng(seed, name))

    def know(self, agents: Sequence[Address]) -> None:
        """These are the agents from now on."""
        self.agents = list(agents)
        for each in self._dialers:
            each.know(agents)

    # The run

    async def run(self, ends_s: float, stopping: Callable[[], bool]) -> None:
        """Rounds until `ends_s` of the loop's clock, or until `stopping`; the last one is judged too."""
        self._ends_s = ends_s
        self._tasks = [self._loop.create_task(reader.run(), name="a reader") for reader in self._readers]
        self._tasks += [self._loop.create_task(member.run(), name="a member") for member in self._members]
        judging: asyncio.Task[None] | None = None
        try:
            whole = True
            while whole and (self._loop.time() < ends_s and not stopping()):
                whole = await self._round(stopping)
                if judging is not None:
                    await judging
                over, self.history = self.history, following(self.history)
                self._count(over)
                self._hand_out()
                judging = self._loop.create_task(self._judge(over, whole))
                whole = whole and not self._outcome.findings
            if judging is not None:
                await judging
        finally:
            await self._end()

    def _hand_out(self) -> None:
        clients: tuple[PacedProducer | Consumer | Member, ...]
        clients = (*self._writers, *self._spiking, *self._readers, *self._members)
        for client in clients:
            client.write_into(self.history)

    async def _round(self, stopping: Callable[[], bool]) -> bool:
        """One round up to its pause; False where it didn't come to rest."""
        plan, loop = self._plan, self._loop
        until_s = min(loop.time() + plan.round_s, self._ends_s)
        first = len(self.history.messages)

        def more() -> bool:
            enough = len(self.history.messages) - first >= ROUND_RECORDS
            return loop.time() < until_s and not enough and not stopping() and not self._failed()

        for member in self._members:
            member.calm = False
        writing = [loop.create_task(writer.run(0, more)) for writer in self._writers]
        writing += [loop.create_task(self._spike(writer, more)) for writer in self._spiking]
        wait_s = max(until_s - loop.time(), 0.0) + plan.delivery_s + plan.settle_s
        return (
            await self._done(writing, wait_s)
            and await self._until(self._all_read, "readers", plan.settle_s)
            and await self._settle()
        )

    async def _spike(self, writer: PacedProducer, more: Callable[[], bool]) -> None:
        """A writer of the load spike: in this round only if the spike touches it."""
        begins_s = self._began_s + self._plan.spike_at_s
        ends_s = begins_s + self._plan.spike_for_s
        while self._loop.time() < begins_s and more():  # noqa: ASYNC110  ended by the clock, or by the round
            await asyncio.sleep(LOOK_S)
        if begins_s <= self._loop.time() < ends_s:
            await writer.run(0, lambda: self._loop.time() < ends_s and more())

    async def _done(self, tasks: list[asyncio.Task[None]], seconds: float) -> bool:
        """Wait for writers; False, with a finding, where one failed or isn't done in time."""
        pending = set(tasks)
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            if task in pending:
                task.cancel()
            elif (error := task.exception()) is not None:
                self._outcome.found(CLIENT_FAILED, f"a writer of {self.topic}: {error!r}")
        await asyncio.gather(*pending, return_exceptions=True)
        if pending:
            self._outcome.found(STUCK, f"{len(pending)} writers of {self.topic} have no answers after {seconds:.0f} s")
        return not pending and not self._failed()

    def _failed(self) -> bool:
        """Has a reader or a member ended by itself? It must not."""
        failed = [task for task in self._tasks if task.done()]
        for task in failed:
            self._tasks.remove(task)
            self._outcome.found(CLIENT_FAILED, f"{task.get_name()} of {self.topic}: {task.exception()!r}")
        return any(rule == CLIENT_FAILED for rule, _ in self._outcome.findings)

    async def _until(self, holds: Callable[[], str], who: str, seconds: float) -> bool:
        """Wait until nothing is missing; False, with a finding, where something still is after this long."""
        until_s = self._loop.time() + seconds
        while missing := holds():
            if self._failed():
                return False
            if self._loop.time() > until_s:
                self._outcome.found(STUCK, f"{who} of {self.topic} after {seconds:.0f} s: {missing}")
                return False
            await asyncio.sleep(LOOK_S)
        return True

    def _all_read(self) -> str:
        behind = [(at, reader.behind(self.history.floors)) for at, reader in enumerate(self._readers)]
        return "; ".join(f"reader {at} is still at {places}" for at, places in behind if places)

    async def _settle(self) -> bool:
        """Let the group come to rest: everything owned, read and committed."""
        if not self._members:
            return True
        for member in self._members:
            member.calm = True
        began_s, bound_s = self._loop.time(), self._plan.settle_s
        settled = await self._until(self._unsettled, "the group", bound_s)
        if settled:
            group, seconds = self._members[0].plan.group, self._loop.time() - began_s
            self.history.groups.settlings.append(Settling(group, min(seconds, bound_s), bound_s, ""))
        return settled

    def _unsettled(self) -> str:
        generations = dict.fromkeys(member.identity.generation for member in self._members)
        owned = sorted(key for member in self._members for key in member.owned)
        if len(generations) == 1 and owned == self.keys and all(member.settled for member in self._members):
            return ""
        return "; ".join(map(str, self._members))

    # Judgement

    def _count(self, history: History) -> None:
        outcome = self._outcome
        acked, read, consumed = counts(history)
        outcome.acked += acked
        outcome.read += read
        outcome.consumed += consumed
        outcome.given_up += history.given_up

    async def _judge(self, history: History, whole: bool) -> None:
        """Off the loop: it takes seconds for a large round."""
        outcome = self._outcome
        verdict, again = await asyncio.to_thread(self._verdict, history, whole)
        self.ledger.carry(self.history)
        outcome.rounds += 1
        for rule, count in verdict.judged.items():
            outcome.judged[rule] = outcome.judged.get(rule, 0) + count
        for name, count in history.errors.items():
            outcome.errors[name] = outcome.errors.get(name, 0) + count
        outcome.findings += again
        outcome.findings += [(finding.rule, finding.text) for finding in verdict.findings]

    def _verdict(self, history: History, whole: bool) -> tuple[Verdict, list[tuple[str, str]]]:
        again = written_again(history)
        verdict = check(history)
        if whole:
            self.ledger.close(history)
        return verdict, again

    async def _end(self) -> None:
        for reader in self._readers:
            reader.stopping = True
        for member in self._members:
            member.finished = True
        if self._tasks:
            _, pending = await asyncio.wait(self._tasks, timeout=5.0)
            for task in pending:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self._readers:
            reader.close()

    @property
    def sent(self) -> int:
        """Messages sent since the start."""
        return sum(writer.sent for writer in (*self._writers, *self._spiking))


def counts(history: History) -> tuple[int, int, int]:
    """(acknowledged, read, read by the group) in a round."""
    read = sum(len(poll.records) for poll in history.polls if not poll.group)
    return history.acked_count, read, sum(len(poll.records) for poll in history.polls if poll.group)
