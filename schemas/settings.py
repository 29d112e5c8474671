"""Every setting of an agent, with name, unit, default and meaning. Values only: a setting is never a component.

Precedence: flag > environment (`NEVE_` + upper-case name) > `neve.toml` > default; `neve settings` prints the effective
values with their source. Broker settings keep Kafka's names with dots as underscores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Frozen settings of one agent process."""

    model_config = SettingsConfigDict(env_prefix="NEVE_", toml_file="neve.toml", frozen=True, extra="ignore")

    profile: Literal["production", "staging", "development"] = Field(
        "production",
        description="What this agent is for; in staging and development faults can be let strike (`neve fault`).",
    )
    fault_poll_interval_ms: int = Field(
        500, gt=0, description="Faults that were set or removed through other agents are looked for this often."
    )
    faults_max: int = Field(100, gt=0, description="Most faults set at a time.")

    # Where things are
    data: Path | None = Field(None, description="Embedded mode: one folder for SQLite, objects and tables.")
    bucket: str | None = Field(None, description="Object store URL, s3://bucket/prefix or file:///path.")
    metadata: str | None = Field(None, description="Metadata database URL, postgresql://... or sqlite:///path.")
    kafka: str = Field("127.0.0.1:9092", description="Address of the Kafka listener.")
    http: str = Field("127.0.0.1:8080", description="Address of the HTTP port (health, metrics, Iceberg REST catalog).")
    advertise: str | None = Field(
        None, description="Address told to Kafka clients, another for each agent; the listener's when unset."
    )
    roles: str = Field("broker,compact,export", description="Roles of this agent, by comma: broker, compact, export.")
    zone: str = Field("", description="Availability zone of this agent.")
    metadata_other_zones: bool = Field(
        True,
        description="Name the agents of other zones too to clients of a zone; partitions are led in their zone anyway. "
        "Where off, many client libraries can't reach a group whose coordinator is in another zone.",
    )
    broker_id: int | None = Field(
        None,
        description="Broker id; when unset the one that the agent before had at the same advertised address, "
        "or the lowest free one.",
    )

    # S3
    s3_endpoint: str | None = Field(None, description="Endpoint of an S3-compatible store.")
    s3_region: str = Field("us-east-1", description="S3 region.")
    s3_access_key_id: str | None = Field(None, description="Access key; the ambient credentials when unset.")
    s3_secret_access_key: str | None = Field(None, repr=False, description="Secret key.")
    s3_path_style: bool = Field(True, description="Path-style addressing; needed by most S3-compatible stores.")
    s3_unsigned_payload: bool | None = Field(
        None,
        description="Skip hashing bodies for signatures; by default only over TLS, where the transport protects them.",
    )
    fsync: Literal["always", "never"] = Field(
        "always",
        description="Local folder and SQLite: flush files and folders to disk. 'never' can lose acknowledged records.",
    )
    object_timeout_ms: int = Field(10_000, gt=0, description="Deadline of one object operation.")
    object_attempts: int = Field(4, gt=0, description="Attempts of one object operation within the commit deadline.")
    local_threads: int = Field(4, gt=0, description="Threads for the files of a local folder.")
    local_inline_bytes: int = Field(
        128 * 1024,
        ge=0,
        description="With fsync=never, objects up to this size go into the page cache without a thread; 0 turns that off.",
    )
    local_pool_bytes_max: int = Field(
        256 * MIB,
        ge=0,
        description="Buffers for reads of a local folder that are kept for use again, those in the block caches included.",
    )

    # Writing
    flush_interval_ms: int = Field(250, ge=1, description="A flush is due this long after its first byte.")
    flush_interval_min_ms: int | None = Field(
        None,
        ge=0,
        description="Least time between the starts of two flushes; 0 on a local folder, 250 on object stores when unset.",
    )
    flush_eager_max: int | None = Field(
        None,
        ge=1,
        description="Flushes on their way up to which the next one doesn't wait; 1 on a local folder, uploads_max on object stores when unset.",
    )
    flush_gather_ms: float = Field(
        1.0,
        ge=0,
        description="Longest wait of an early flush for producers that were just answered to send again; only without a least interval.",
    )
    flush_bytes: int = Field(8 * MIB, gt=0, description="A flush is due at this many buffered bytes.")
    flush_shards: int = Field(1000, gt=0, description="A flush is due at this many distinct partitions.")
    uploads_max: int = Field(8, gt=0, description="Concurrent segment uploads.")
    unflushed_bytes_max: int = Field(
        256 * MIB, gt=0, description="Unflushed bytes at which connections stop being read."
    )
    lost_sequences_max: int = Field(
        10_000,
        gt=0,
        description="Failed batches of idempotent producers remembered, so that later ones of their connection wait for them.",
    )
    commit_group_max: int = Field(64, gt=0, description="Most objects committed in one metadata transaction.")
    commit_deadline_ms: int = Field(
        30_000, gt=0, description="Longest wait for an upload and its commit before REQUEST_TIMED_OUT."
    )
    epoch_lease_ms: int = Field(30_000, gt=0, description="Lease of an agent epoch, renewed at a third of it.")
    epoch_rotate_ms: int = Field(600_000, gt=0, description="Agent epochs are rotated this often.")
    epoch_age_max_ms: int = Field(1_800_000, gt=0, description="Commits under an epoch older than this are refused.")
    agent_lease_ms: int = Field(
        15_000, gt=0, description="An agent that hasn't renewed for this long leaves the cluster view."
    )

    # Metadata database
    database_writers: int = Field(2, gt=0, description="PostgreSQL: connections for write transactions.")
    database_readers: int = Field(4, gt=0, description="Connections (SQLite: threads) for read snapshots.")
    database_connect_timeout_ms: int = Field(5_000, gt=0, description="PostgreSQL: longest wait for a connection.")
    database_command_timeout_ms: int = Field(10_000, gt=0, description="PostgreSQL: longest statement or lock wait.")
    database_busy_timeout_ms: int = Field(10_000, gt=0, description="SQLite: longest wait for another process's write.")
    database_attempts: int = Field(
        5, gt=0, description="PostgreSQL: runs of one transaction on deadlocks and conflicts."
    )
    producer_id_expiration_ms: int = Field(
        86_400_000, gt=0, description="Idle producers are forgotten after this long."
    )

    # Reading
    cache_bytes: int = Field(160 * MIB, gt=0, description="Block cache of an agent.")
    cache_block_bytes: int = Field(
        10 * MIB,
        gt=0,
        description="Alignment and size of cached blocks: more than a segment, so that one GET reads it whole.",
    )
    tail_extents_max: int = Field(100_000, gt=0, description="Extents kept in the tail index of an agent.")
    cold_cache_bytes: int = Field(
        128 * MIB, gt=0, description="Block cache of the cold path, which old data goes through."
    )
    hot_reads_max: int = Field(32, gt=0, description="Concurrent object reads of recent data.")
    readahead_bytes: int = Field(
        4 * MIB, ge=0, description="Per partition, bytes read ahead of a consumer of old data."
    )
    cold_reads_max: int = Field(4, gt=0, description="Concurrent object reads of old data.")
    prune_interval_ms: int = Field(
        300_000, gt=0, description="Stored outcomes and idle producers are pruned this often."
    )
    hint_interval_ms: int = Field(5, gt=0, description="Least time between two hints to other agents about commits.")
    topic_poll_interval_ms: int = Field(
        1_000, gt=0, description="Changes of topics by other agents are looked for this often."
    )
    record_workers: int = Field(
        2, gt=0, description="Threads that look into records (ListOffsets by time, compacted topics)."
    )
    record_work_max: int = Field(64, gt=0, description="Calls that may wait for those threads.")
    poll_interval_ms: int = Field(100, gt=0, description="High watermarks of waiting shards are polled this often.")
    fetch_read_ms: int = Field(
        10_000, gt=0, description="A Fetch answers with what it has once its reads from the store took this long."
    )
    fetch_max_bytes: int = Field(
        55 * MIB, gt=0, description="Most bytes in one Fetch answer, whatever the client asks."
    )
    cold_age_ms: int = Field(60_000, gt=0, description="Objects older than this go through the cold path.")

    # Kafka's own
    num_partitions: int = Field(1, gt=0, description="Partitions of auto-created topics.")
    auto_create_topics_enable: bool = Field(
        True, description="Create unknown topics on Metadata requests that allow it."
    )
    delete_topic_enable: bool = Field(True, description="Topics can be deleted.")
    max_request_partition_size_limit: int = Field(
        2_000, gt=0, description="Most partitions in one answer of DescribeTopicPartitions."
    )
    message_max_bytes: int = Field(
        1_048_588, gt=0, description="Largest record batch, unless the topic says otherwise."
    )
    socket_request_max_bytes: int = Field(100 * MIB, gt=0, description="Largest request frame.")
    preauth_request_max_bytes: int = Field(512 * 1024, gt=0, description="Largest frame before authentication.")
    max_connections: int = Field(10_000, gt=0, description="Connections in all.")
    max_connections_per_ip: int = Field(10_000, gt=0, description="Connections per client address.")
    connections_max_idle_ms: int = Field(600_000, gt=0, description="Idle connections are closed after this long.")
    requests_in_flight_max: int = Field(
        1000, gt=0, description="Pipelined requests per connection before reading stops."
    )
    request_elements_max: int = Field(
        100_000,
        gt=0,
        description="Array elements in one request, of all its arrays together; more close the connection.",
    )
    receive_pool_bytes_max: int = Field(64 * MIB, ge=0, description="Receive buffers kept for use again, per process.")
    response_buffer_bytes_max: int = Field(
        16 * MIB, gt=0, description="Unsent bytes per connection before reading stops."
    )
    max_decompressed_message_bytes: int = Field(128 * MIB, gt=0, description="Bound on one batch's decompressed bytes.")
    partitions_max_per_topic: int = Field(100_000, gt=0, description="Most partitions of one topic.")

    # Jobs
    job_lease_ms: int = Field(
        60_000,
        gt=0,
        description="Lease of a job, renewed at a third of it: another process goes on with it this long after a crash.",
    )
    job_poll_ms: int = Field(2_000, gt=0, description="How often a process with the role compact looks for due jobs.")
    job_turn_ms: int = Field(250, gt=0, description="A job works this long, then others have their turns.")
    job_turn_timeout_ms: int = Field(600_000, gt=0, description="A turn that hasn't ended after this long has failed.")
    job_hold_ms: int = Field(
        60_000, gt=0, description="A job with more and more to do is given back after this long: others may take it."
    )
    job_slice_ms: int = Field(
        20, gt=0, description="A job works this long, then it rests for as long as clients' use of the CPU asks."
    )
    job_rest_max_ms: int = Field(1_000, gt=0, description="Longest rest of a job.")
    job_share_min: float = Field(
        0.1, gt=0, le=1, description="Share of the time that jobs work while clients need the whole CPU."
    )
    job_write_share: float = Field(
        0.02,
        gt=0,
        le=1,
        description="Share of the time that jobs hold the write lock of a SQLite database, which agents wait for.",
    )
    job_nice: int = Field(19, ge=1, le=19, description="Niceness of the process that runs jobs.")
    job_retry_ms: int = Field(
        1_000, gt=0, description="First wait of a job that failed; each next one is twice as long."
    )
    job_retry_max_ms: int = Field(60_000, gt=0, description="Longest wait of a job that failed.")

    # Compaction
    compaction_enable: bool = Field(
        True, description="Agents with the role compact merge small objects of records that have settled."
    )
    compaction_interval_ms: int = Field(30_000, gt=0, description="How often small objects are looked for.")
    compaction_parallel: int = Field(
        1, gt=0, description="Processes that merge small objects at once, each those of its share of the partitions."
    )
    compaction_settle_ms: int = Field(
        60_000, ge=0, description="Records committed less long ago are left where they are: tail readers are at them."
    )
    compaction_object_bytes: int = Field(64 * MIB, gt=0, description="Largest object that compaction writes, about.")
    compaction_extent_bytes: int = Field(
        4 * MIB,
        gt=0,
        lt=2**31,
        description="Adjacent records of a partition are joined up to this size; a reader of old data loads as much at once.",
    )
    compaction_extents_min: int = Field(
        8, ge=2, description="Fewer adjacent extents of a partition wait until there are more."
    )
    compaction_extents_max: int = Field(4_096, ge=2, description="Most extents replaced in one metadata transaction.")
    compaction_span_ms: int = Field(
        600_000,
        ge=0,
        description="Extents are joined over this much time, or an eighth of their age: retention then drops them together.",
    )
    compaction_rows_max: int = Field(10_000, gt=0, description="Extents looked at in one query.")
    compaction_shards_max: int = Field(100, gt=0, description="Partitions looked at in one query.")

    # Compaction by key
    key_compaction_enable: bool = Field(
        False, description="Agents with the role compact compact topics with cleanup.policy=compact by key."
    )
    key_compaction_interval_ms: int = Field(
        15_000, gt=0, description="How often topics are looked at whose records are to be compacted by key."
    )
    key_compaction_tail_ms: int = Field(
        60_000,
        ge=0,
        description="Records committed less than this ago aren't compacted by key; what Kafka leaves is its active segment.",
    )
    key_compaction_keys_max: int = Field(
        500_000,
        gt=0,
        description="Most keys held in memory while a partition is compacted, about 200 bytes each; a log with more is done in several rounds.",
    )
    key_compaction_chunk_bytes: int = Field(
        32 * MIB, gt=0, description="Bytes of a log that are rewritten in one step, into one object."
    )
    key_compaction_attempts: int = Field(
        5,
        gt=0,
        description="Attempts of such a step whose extents others change meanwhile, before the round is given up.",
    )

    # Deletion
    log_retention_check_interval_ms: int = Field(
        300_000, gt=0, description="How often retention looks for records that are too old or too many."
    )
    deletion_interval_ms: int = Field(60_000, gt=0, description="How often the deletion job looks for what can go.")
    deletion_shards_max: int = Field(1_000, gt=0, description="Partitions the deletion job looks at in one query.")
    deletion_rows_max: int = Field(2_000, gt=0, description="Most rows one transaction of the deletion job touches.")
    deletion_steps_max: int = Field(
        1_000, gt=0, description="Most transactions of one round of the deletion job; the next one goes on from there."
    )
    object_delete_delay_ms: int = Field(
        600_000,
        gt=0,
        description="Objects that nothing refers to any more are deleted this long after: readers may still be at them.",
    )
    object_delete_max: int = Field(1_000, gt=0, description="Objects deleted with one request to the store.")
    orphan_delay_ms: int = Field(
        1_800_000,
        gt=0,
        description="What a dead agent uploaded and never committed is first looked for after this long.",
    )
    orphan_watch_ms: int = Field(
        86_400_000, gt=0, description="It is looked for again until this long after, because uploads may land late."
    )
    orphans_max: int = Field(
        10_000, gt=0, description="More orphans of one agent epoch than this are left alone until somebody has looked."
    )
    orphan_share_max: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A larger share of orphans among an epoch's objects is left alone too, from a hundred orphans on.",
    )
    export_pin_ms: int = Field(
        604_800_000,
        ge=0,
        description="Retention waits for the export of records at most until this long after their commit.",
    )
    export_pin_bytes: int = Field(
        1024 * MIB, ge=0, description="Per partition, most bytes not yet exported that retention waits for."
    )

    # The bucket alone is enough
    journal_interval_ms: int = Field(
        1_000,
        ge=0,
        description="Outcomes of commits that no flush header has carried are written to the bucket this often: the recovery point of `neve restore`. 0 turns the journal off.",
    )
    journal_waiting_max: int = Field(
        100_000,
        gt=0,
        description="Outcomes that wait for the journal; beyond, the oldest are left to the next snapshot.",
    )
    snapshot_interval_ms: int = Field(
        300_000, ge=0, description="The metadata is written to the bucket this often. 0 turns snapshots off."
    )
    snapshots_kept: int = Field(3, ge=2, description="Snapshots of the metadata that stay in the bucket.")

    # Client quotas
    quota_window_num: int = Field(11, ge=2, description="Windows that a client's use is remembered in.")
    quota_window_size_seconds: float = Field(1, gt=0, description="Length of such a window.")
    quota_clients_max: int = Field(10_000, gt=0, description="Clients whose use an agent remembers.")
    quota_poll_interval_ms: int = Field(
        1_000, gt=0, description="Changes of client quotas by other agents are looked for this often."
    )

    # Groups
    group_min_session_timeout_ms: int = Field(6_000, gt=0, description="Shortest session timeout a member may ask for.")
    group_max_session_timeout_ms: int = Field(
        1_800_000, gt=0, description="Longest session timeout a member may ask for."
    )
    group_initial_rebalance_delay_ms: int = Field(
        3_000, ge=0, description="An empty group waits this long for more members before its first rebalance."
    )
    group_max_size: int = Field(2**31 - 1, gt=0, description="Most members of one group.")
    group_new_member_join_timeout_ms: int = Field(
        300_000, gt=0, description="Longest wait of a new member's first JoinGroup."
    )
    offset_metadata_max_bytes: int = Field(4_096, ge=0, description="Longest metadata string of a committed offset.")
    offsets_retention_minutes: int = Field(
        10_080, gt=0, description="Committed offsets of empty groups are kept this long."
    )
    offsets_retention_check_interval_ms: int = Field(
        600_000, gt=0, description="How often offsets that have run out are looked for."
    )
    group_slot_lease_ms: int = Field(
        6_000, gt=0, description="Lease of a group slot: another agent coordinates its groups this long after a crash."
    )
    group_slot_poll_ms: int = Field(
        1_000, gt=0, description="How often an agent looks for group slots without a holder, and renews its own."
    )
    group_writes_max: int = Field(64, gt=0, description="Most writes of group coordinators in one transaction.")
    group_writes_queued_max: int = Field(
        10_000, gt=0, description="Writes of group coordinators that may wait for the database."
    )
    group_write_deadline_ms: int = Field(
        10_000, gt=0, description="Longest wait for a write of a group coordinator before COORDINATOR_NOT_AVAILABLE."
    )

    # Export
    iceberg_exclude: str = Field(
        r"^(__.*|connect-.*|.*-(changelog|repartition))$", description="Topics whose names match are not mirrored."
    )
    export_interval_ms: int = Field(500, gt=0, description="How often the exporter looks for work.")
    export_chunk_bytes: int = Field(32 * MIB, gt=0, description="Most log bytes decoded into one Parquet file.")
    export_decoded_bytes: int = Field(
        16 * MIB, gt=0, description="Most decompressed bytes decoded at once by an exporter."
    )
    export_lease_ms: int = Field(30_000, gt=0, description="Lease of a topic's export, renewed at a third of it.")
    export_retry_max_ms: int = Field(
        30_000, gt=0, description="Longest wait before a topic whose export failed is tried again."
    )
    partitions_max_per_commit: int = Field(
        64, gt=0, description="Most partitions (days, by default) one table commit touches."
    )
    latest_keys_max: int = Field(100_000, gt=0, description="Most keys of a latest table in the simple way.")
    latest_bytes_max: int = Field(
        256 * MIB, gt=0, description="Most bytes in memory of a latest table's rows in the simple way."
    )
    export_idle_commit_ms: int = Field(
        2_000,
        gt=0,
        description="A table is committed this long after its last new record, without waiting for iceberg.target.lag.ms.",
    )

    # Shutdown
    drain_ms: int = Field(20_000, gt=0, description="Longest drain after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")

    @field_validator("iceberg_exclude")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        """Refused here: the exporter would end over it again and again."""
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _deletes_late_enough(self) -> Settings:
        """Readers hold where an extent is for as long as a fetch reads, and agents learn of a new log start when they poll."""
        held_ms = max(self.fetch_read_ms, self.topic_poll_interval_ms)
        if self.object_delete_delay_ms < 2 * held_ms:
            raise ValueError(
                f"object_delete_delay_ms is {self.object_delete_delay_ms}: it must be at least twice fetch_read_ms "
                f"({self.fetch_read_ms}) and topic_poll_interval_ms ({self.topic_poll_interval_ms})"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flag, environment, file, default: in this order."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
