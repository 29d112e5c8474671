"""One workload from its bootstrap address to its outcome: topics made, agents followed, cohorts run, the log audited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from broker.clock import SystemClock
from neve.kafka_client import KafkaClient, KafkaClientError
from neve.simulation.session import Address
from neve.topic_admin import create_topic, delete_topic
from neve.workload.audit import Auditor
from neve.workload.clients import dialer
from neve.workload.cohort import Cohort, counts
from neve.workload.plan import Outcome, WorkloadPlan

FOLLOW_S = 2.0
"""Agents that came or went are looked for this often."""
ATTEMPTS = 20
T = TypeVar("T")


class Workload:
    """One run. `stop` ends it early; what was done until then is judged."""

    def __init__(self, plan: WorkloadPlan, progress: Callable[[str], None]) -> None:
        self.plan = plan
        self.outcome = Outcome(plan.seed, plan.topic)
        self._progress = progress
        self._stopping = asyncio.Event()
        self._agents: list[Address] = [split(plan.bootstrap)]
        self._cohorts: list[Cohort] = []
        self._began_s = asyncio.get_running_loop().time()

    def stop(self) -> None:
        """End the writing now."""
        self._stopping.set()

    async def run(self, progress_s: float) -> Outcome:
        """The whole of it. Raises KafkaClientError where the cluster can't be reached to begin with."""
        plan, loop = self.plan, asyncio.get_running_loop()
        self._agents = await self._learn()
        topics = await self._create()
        clock = SystemClock()
        for topic in topics:
            members = plan.members if topic.endswith("-group") else 0
            self._cohorts.append(Cohort(plan, topic, self._agents, clock, self.outcome, members=members))
        self._began_s = loop.time()
        watching = [loop.create_task(self._follow()), loop.create_task(self._report(progress_s))]
        try:
            ends_s = self._began_s + plan.seconds
            await asyncio.gather(*(cohort.run(ends_s, self._stopping.is_set) for cohort in self._cohorts))
            if plan.audit and not self.outcome.findings:
                self._progress("reading everything once more")
                await self._audit()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        await self._conclude(topics)
        return self.outcome

    async def _create(self) -> list[str]:
        topics = [self.plan.topic] + ([f"{self.plan.topic}-group"] if self.plan.members else [])
        for topic in topics:
            await self._make(topic)
        return topics

    async def _make(self, topic: str) -> None:
        try:
            await self._ask(lambda client: create_topic(client, topic, self.plan.partitions, {}))
        except KafkaClientError as error:
            if "already exists" not in str(error):  # an answer was lost, and the topic is there
                raise

    async def _ask(self, work: Callable[[KafkaClient], Awaitable[T]]) -> T:
        """Ask any agent, and another one where that fails: faults may strike already."""
        attempt = 0
        while True:
            host, port = self._agents[attempt % len(self._agents)]
            try:
                async with await KafkaClient.connect(f"{host}:{port}") as client:
                    return await work(client)
            except KafkaClientError as error:
                attempt += 1
                if attempt == ATTEMPTS or "exist" in str(error):
                    raise
                await asyncio.sleep(0.2)

    async def _learn(self) -> list[Address]:
        async def brokers(client: KafkaClient) -> list[Address]:
            answer = await client.metadata([])
            return sorted((str(broker.host), int(broker.port)) for broker in answer.brokers)

        found = await self._ask(brokers)
        self.outcome.agents_seen = max(self.outcome.agents_seen, len(found))
        return found or self._agents

    async def _follow(self) -> None:
        """Learn of agents that came or went."""
        while True:
            await asyncio.sleep(FOLLOW_S)
            with contextlib.suppress(KafkaClientError):
                agents = await self._learn()
                if agents != self._agents:
                    self._progress(f"agents: {len(self._agents)} → {len(agents)}")
                    self._agents = agents
                    for cohort in self._cohorts:
                        cohort.know(agents)

    async def _report(self, every_s: float) -> None:
        before = 0
        while True:
            await asyncio.sleep(every_s)
            live = [counts(cohort.history) for cohort in self._cohorts]
            acked = self.outcome.acked + sum(each[0] for each in live)
            read = self.outcome.read + self.outcome.consumed + sum(each[1] + each[2] for each in live)
            spent_s = asyncio.get_running_loop().time() - self._began_s
            self._progress(
                f"{spent_s:6.0f} s  acknowledged {acked} ({max(acked - before, 0) / every_s:.0f}/s)  read {read}  "
                f"rounds {self.outcome.rounds}  findings {len(self.outcome.findings)}  agents {len(self._agents)}"
            )
            before = acked

    async def _audit(self) -> None:
        for cohort in self._cohorts:
            found = dialer("auditor", f"{self.plan.seed}", cohort.history, self._agents, cohort.topic, flexible=True)
            await Auditor(found, self.outcome, self.plan.settle_s).audit(cohort.ledger, cohort.history)

    async def _conclude(self, topics: Sequence[str]) -> None:
        outcome = self.outcome
        outcome.seconds = round(asyncio.get_running_loop().time() - self._began_s, 1)
        outcome.sent = sum(cohort.sent for cohort in self._cohorts)
        if not outcome.acked:
            outcome.found("too_little", "nothing was acknowledged, so nothing was judged")
        if outcome.findings or self.plan.keep_topics:
            return
        for topic in topics:
            with contextlib.suppress(KafkaClientError):
                await self._delete(topic)

    async def _delete(self, topic: str) -> None:
        await self._ask(lambda client: delete_topic(client, topic))


def split(address: str) -> Address:
    """HOST:PORT as a pair. Raises KafkaClientError with the form wanted."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise KafkaClientError(f"address {address!r}: want HOST:PORT")
    return host.strip("[]"), int(port)
