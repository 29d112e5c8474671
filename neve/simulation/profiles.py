"""What a seed turns into: settings, topics, clients and faults of one run, drawn from the seed alone (swarm style).

A profile narrows the draw to one corner, so that a certain bug is certain to be met. The same seed and profile give the
same plan on every machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from neve.simulation.consumer import ConsumerPlan
from neve.simulation.deletions import DeletionPlan
from neve.simulation.faults import DATABASE, GROUPS, KINDS, NETWORK, STORE
from neve.simulation.group_run import draw_members
from neve.simulation.member import MemberPlan
from neve.simulation.producer import ProducerPlan
from schemas.settings import MIB, Settings

CLIENTS = 3
FAULTS_MIN = 10
RECORDS_MIN = 500


class SimulatedSettings(Settings):
    """Settings from arguments alone: neither the environment nor a file may change a run."""

    model_config = SettingsConfigDict(toml_file=None, frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed."""
        return (init_settings,)


@dataclass(frozen=True)
class Profile:
    """A corner of what can happen. `always` are kinds that every seed has; `kinds` the pool the rest is drawn from."""

    name: str
    doc: str
    kinds: tuple[str, ...] = KINDS
    always: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    faults_min: int = FAULTS_MIN
    records: int = RECORDS_MIN
    idempotent_share: float = 0.7
    stray_share: float | None = None
    crashes: int = 0
    """Kills at exact steps, in place of kills by time."""
    deleting_share: float = 0.4
    """Share of seeds in which records and topics are deleted."""
    compacting_share: float = 0.6
    """Share of seeds in which small objects are merged soon after they were written."""
    groups_every: int = 0
    """Every so many seeds have consumer groups; 0 for none."""
    groups_max: int = 1
    storm_min_s: float = 0.0
    """Faults strike for at least this long."""
    patient_share: float = 0.3
    """Share of members that wait for a JoinGroup as long as its connection lives."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("swarm", "everything that can happen, a random part of it per seed", groups_every=3),
        Profile("calm", "no fault at all", kinds=(), faults_min=0),
        Profile("network", "lost requests and replies, resets, partitions", kinds=NETWORK, always=("reply_lost",)),
        Profile("store", "an object store at its worst", kinds=STORE, always=("put_torn", "put_landed_unknown")),
        Profile("database", "a database at its worst", kinds=DATABASE, always=("db_reply_lost", "db_request_lost")),
        Profile(
            "zombie",
            "agents that stand still past their epoch lease between upload and commit, while orphans are swept",
            kinds=("pause_past_lease", "sweep", "db_slow", "request_lost"),
            always=("pause_past_lease",),
            settings=(("epoch_lease_ms", 2000), ("commit_deadline_ms", 20_000)),
        ),
        Profile(
            "retries",
            "answers lost after the commit, retried at other agents",
            kinds=("reply_lost", "kill", "db_reply_lost", "half_open"),
            always=("reply_lost", "db_reply_lost"),
            idempotent_share=1.0,
            stray_share=0.7,
        ),
        Profile(
            "crash",
            "agents killed between any two steps of the scheduler, nothing else",
            kinds=("kill",),
            always=("kill",),
            crashes=14,
        ),
        Profile(
            "crossing",
            "every client at every agent, slow hints: agents lag behind each other",
            kinds=("latency", "db_slow", "reset"),
            always=("db_slow",),
            settings=(("poll_interval_ms", 2000),),
            stray_share=0.9,
        ),
        Profile(
            "deletion",
            "records and topics are deleted, and their objects, while agents are killed and stand still",
            kinds=(
                "kill",
                "pause",
                "pause_past_lease",
                "sweep",
                "db_reply_lost",
                "db_landed_late",
                "db_request_lost",
                "db_slow",
                "put_landed_late",
                "put_landed_unknown",
                "delete_refused",
                "delete_partial",
                "delete_unconfirmed",
                "list_refused",
            ),
            always=("kill", "delete_partial"),
            deleting_share=1.0,
        ),
        Profile(
            "compaction",
            "small objects are merged, by several agents at once, while these are killed, stand still and lose answers",
            kinds=(
                "kill",
                "pause",
                "pause_past_lease",
                "sweep",
                "db_reply_lost",
                "db_landed_late",
                "db_request_lost",
                "db_slow",
                "put_landed_late",
                "put_landed_unknown",
                "put_torn",
                "get_refused",
                "get_truncated",
                "get_flipped",
                "delete_partial",
            ),
            always=("kill", "db_slow"),
            deleting_share=0.7,
            compacting_share=1.0,
            settings=(("job_lease_ms", 1500), ("compaction_settle_ms", 0), ("compaction_interval_ms", 200)),
        ),
        Profile(
            "groups",
            "members of consumer groups come, go, stand still and lose answers, while agents are killed",
            kinds=("kill", "pause", "reply_lost", "request_lost", "half_open", "reset", "partition", "db_landed_late"),
            always=("reply_lost", "kill"),
            groups_every=1,
            groups_max=2,
            storm_min_s=12.0,
        ),
        Profile(
            "coordinators",
            "agents lose their group slots: they stand still past the lease with writes on their way, the database stops",
            kinds=("pause", "db_slow", "db_stopped", "db_reply_lost", "db_landed_late", "kill", *GROUPS),
            always=("zombie_write", "pause"),
            settings=(("group_slot_lease_ms", 1500), ("group_slot_poll_ms", 200)),
            groups_every=1,
            patient_share=1.0,
            storm_min_s=12.0,
        ),
    )
}


@dataclass(frozen=True)
class TopicPlan:
    """One topic."""

    name: str
    shards: int
    append_time: bool


@dataclass(frozen=True)
class ClientPlan:
    """One client machine: a producer and a consumer."""

    flexible: bool
    stray_share: float
    producer: ProducerPlan
    consumer: ConsumerPlan


@dataclass(frozen=True)
class Plan:
    """One run."""

    seed: int
    profile: Profile
    agents: int
    settings: Settings
    skews_ms: tuple[int, ...]
    compactors: tuple[int, ...]
    """How many agents compact at once, as each agent believes."""
    topics: tuple[TopicPlan, ...]
    deletion: DeletionPlan
    clients: tuple[ClientPlan, ...]
    members: tuple[MemberPlan, ...]
    fault_kinds: tuple[str, ...]
    fault_gap_s: tuple[float, float]
    rates: dict[str, float]
    crash_steps: tuple[int, ...]
    fifo_share: float
    cut_share: float
    latency_s: tuple[float, float]
    store_latency_s: tuple[float, float]
    window_bytes: int


def stream(seed: int, profile: str, name: str) -> random.Random:
    """An independent source of randomness for one part of a run; the same in every process."""
    return random.Random(f"neve simulation {profile} {seed} {name}")


def draw(seed: int, profile: Profile) -> Plan:
    """The plan of one seed."""
    rng = stream(seed, profile.name, "plan")
    agents = rng.choice((2, 2, 3))
    kinds = _kinds(rng, profile)
    return Plan(
        seed=seed,
        profile=profile,
        agents=agents,
        settings=_settings(rng, profile, _compaction(stream(seed, profile.name, "compaction plan"), profile)),
        skews_ms=tuple(rng.choice((0, 0, -40, 700, -8000, 60_000)) for _agent in range(agents)),
        compactors=tuple(stream(seed, profile.name, "compactors").choices((1, 1, 2), k=agents)),
        topics=_topics(rng),
        deletion=_deletion(stream(seed, profile.name, "deletion plan"), profile),
        clients=tuple(_client(rng, profile, first=at == 0) for at in range(CLIENTS)),
        members=_members(seed, profile),
        fault_kinds=kinds,
        fault_gap_s=rng.choice(((0.1, 0.5), (0.2, 1.0), (0.5, 2.0))),
        rates={
            kind: rng.choice((0.002, 0.01, 0.03)) for kind in kinds if kind in STORE + DATABASE and rng.random() < 0.3
        },
        crash_steps=tuple(sorted(rng.sample(range(300, 9000), profile.crashes))),
        fifo_share=rng.choice((0.0, 0.5, 0.95, 1.0)),
        cut_share=rng.choice((0.0, 0.1, 0.6)),
        latency_s=rng.choice(((0.0001, 0.002), (0.0005, 0.01), (0.001, 0.08))),
        store_latency_s=rng.choice(((0.001, 0.01), (0.01, 0.06), (0.02, 0.2))),
        window_bytes=rng.choice((300, 4096, 65536)),
    )


def _kinds(rng: random.Random, profile: Profile) -> tuple[str, ...]:
    pool = [kind for kind in profile.kinds if kind not in profile.always]
    count = min(len(pool), rng.randint(3, 12))
    return (*profile.always, *rng.sample(pool, count))


def _topics(rng: random.Random) -> tuple[TopicPlan, ...]:
    plans = [TopicPlan("orders", rng.randint(1, 3), False), TopicPlan("events", rng.randint(1, 2), True)]
    return tuple(plans[: rng.choice((1, 2, 2))] if rng.random() < 0.8 else plans[1:])


def _deletion(rng: random.Random, profile: Profile) -> DeletionPlan:
    if rng.random() >= profile.deleting_share:
        return DeletionPlan(None, 0.0, 0.0, 0, None)
    return DeletionPlan(
        records_gap_s=rng.choice(((0.2, 1.0), (0.5, 3.0), (2.0, 6.0))),
        share_max=rng.choice((0.3, 0.6, 1.0)),
        all_share=rng.choice((0.0, 0.0, 0.1)),
        topics=rng.choice((0, 1, 3)),
        retention_ms=rng.choice((None, None, None, 4000, 15_000)),
    )


def _members(seed: int, profile: Profile) -> tuple[MemberPlan, ...]:
    if not profile.groups_every or seed % profile.groups_every:
        return ()
    rng = stream(seed, profile.name, "members")
    return draw_members(rng, patient_share=profile.patient_share, groups_max=profile.groups_max)


def _client(rng: random.Random, profile: Profile, *, first: bool) -> ClientPlan:
    stray = rng.choice((0.0, 0.1, 0.5)) if profile.stray_share is None else profile.stray_share
    producer = ProducerPlan(
        idempotent=first or rng.random() < profile.idempotent_share,
        in_flight_max=rng.choice((1, 2, 5)),
        records_per_batch_max=rng.choice((1, 4, 10)),
        batches_per_request_max=rng.choice((1, 2, 4)),
        request_timeout_s=rng.choice((1.0, 2.0, 5.0)),
        delivery_timeout_s=rng.choice((20.0, 60.0, 60.0)),
        pause_s=rng.choice((0.0, 0.05, 0.2)),
        acks=rng.choice((-1, -1, 1)),
    )
    consumer = ConsumerPlan(
        max_wait_ms=rng.choice((100, 500, 1000)),
        max_bytes=rng.choice((1, 700, 5000, 50 * MIB, 50 * MIB)),
        partition_max_bytes=rng.choice((1, 500, 4000, MIB, MIB)),
        request_timeout_s=rng.choice((3.0, 6.0)),
        move_share=rng.choice((0.0, 0.05, 0.3)),
        listing_share=rng.choice((0.05, 0.2)),
    )
    return ClientPlan(rng.random() < 0.5, stray, producer, consumer)


def _compaction(rng: random.Random, profile: Profile) -> dict[str, Any]:
    if rng.random() >= profile.compacting_share:
        return {"compaction_enable": False}
    return {
        "compaction_interval_ms": rng.choice((200, 1000)),
        "compaction_settle_ms": rng.choice((0, 300, 2000)),
        "compaction_extent_bytes": rng.choice((600, 3000, 4 * MIB)),
        "compaction_object_bytes": rng.choice((2000, 64 * MIB)),
        "compaction_extents_min": rng.choice((2, 3, 8)),
        "compaction_extents_max": rng.choice((4, 4096)),
        "compaction_span_ms": rng.choice((1000, 600_000)),
        "compaction_rows_max": rng.choice((10, 10_000)),
        "compaction_shards_max": rng.choice((1, 100)),
    }


def _settings(rng: random.Random, profile: Profile, more: dict[str, Any]) -> Settings:
    block = rng.choice((256, 4096, 4 * MIB))
    values: dict[str, Any] = {
        "flush_interval_ms": rng.choice((1, 20, 100, 250)),
        "flush_interval_min_ms": rng.choice((0, 0, 20, 100)),
        "flush_eager_max": rng.choice((None, 1, 4)),
        "flush_bytes": rng.choice((400, 4000, 8 * MIB)),
        "flush_shards": rng.choice((1, 2, 1000)),
        "uploads_max": rng.choice((1, 2, 8)),
        "unflushed_bytes_max": rng.choice((6000, 60_000, 256 * MIB)),
        "commit_group_max": rng.choice((1, 2, 64)),
        "commit_deadline_ms": rng.choice((2500, 6000, 12_000)),
        "epoch_lease_ms": rng.choice((1500, 3000, 10_000)),
        "epoch_rotate_ms": rng.choice((2000, 5000, 60_000)),
        "epoch_age_max_ms": rng.choice((15_000, 120_000)),
        "agent_lease_ms": rng.choice((2000, 15_000)),
        "object_timeout_ms": rng.choice((800, 2500, 10_000)),
        "object_attempts": rng.choice((2, 4)),
        "cache_bytes": max(rng.choice((20_000, 256 * MIB)), 8 * block),
        "cache_block_bytes": block,
        "tail_extents_max": rng.choice((3, 50, 100_000)),
        "cold_reads_max": rng.choice((1, 4)),
        "poll_interval_ms": rng.choice((50, 200, 1000)),
        "fetch_max_bytes": rng.choice((900, 10_000, 55 * MIB)),
        "cold_age_ms": rng.choice((500, 60_000)),
        "requests_in_flight_max": rng.choice((2, 1000)),
        "response_buffer_bytes_max": rng.choice((1000, 16 * MIB)),
        "connections_max_idle_ms": rng.choice((8000, 600_000)),
        "prune_interval_ms": rng.choice((2000, 600_000)),
        "lost_sequences_max": 10_000,
        "readahead_bytes": rng.choice((1, 1, 2000, 4 * MIB)),
        "drain_ms": 5000,
        "roles": "broker",
        "fetch_read_ms": 1000,
        "log_retention_check_interval_ms": rng.choice((1000, 3000)),
        "journal_interval_ms": 0,
        "snapshot_interval_ms": 0,
        "deletion_interval_ms": rng.choice((500, 2000)),
        "job_lease_ms": rng.choice((1500, 5000)),
        "job_poll_ms": 500,
        "job_retry_ms": 200,
        "job_retry_max_ms": 2000,
        "deletion_shards_max": rng.choice((1, 2, 1000)),
        "deletion_rows_max": rng.choice((1, 3, 2000)),
        "deletion_steps_max": rng.choice((2, 1000)),
        "object_delete_delay_ms": rng.choice((2000, 5000)),
        "object_delete_max": rng.choice((1, 3, 1000)),
        "orphan_delay_ms": rng.choice((500, 4000)),
        "orphan_watch_ms": rng.choice((60_000, 86_400_000)),
        "group_min_session_timeout_ms": 500,
        "group_initial_rebalance_delay_ms": rng.choice((0, 300, 1000)),
        "group_new_member_join_timeout_ms": rng.choice((2000, 20_000)),
        "group_slot_lease_ms": rng.choice((1500, 3000, 6000)),
        "group_slot_poll_ms": rng.choice((200, 500)),
        "group_writes_max": rng.choice((1, 3, 64)),
        "group_write_deadline_ms": rng.choice((1500, 6000)),
    }
    return SimulatedSettings(**(values | more | dict(profile.settings)))
