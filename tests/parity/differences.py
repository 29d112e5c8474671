"""Every difference that is left between Apache Kafka's answers and ours: what each says, and why.

`deviation` is a piece of the sentence under `Deviations:` in the API module's docstring (and so of docs/kafka-apis.md)
that tells users about it; the test holds that it is there. A row that no answer needs any more fails its case.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from schemas.kafka.api_keys import ApiKey
from tests.parity.wire import Nothing


class Kind(Enum):
    """What stands for several values."""

    ABSENT = "the field isn't there"
    ANYTHING = "any value"
    SOMETHING = "any value but null or nothing"


ABSENT, ANYTHING, SOMETHING = Kind.ABSENT, Kind.ANYTHING, Kind.SOMETHING


def allows(wanted: Any, value: Any) -> bool:
    """Is this the value the row speaks of?"""
    if wanted is ANYTHING:
        return True
    if wanted is SOMETHING:
        return value is not None and value != []
    return bool(wanted == value)


class Difference(NamedTuple):
    """`case` and `where` (`observation: path`) are patterns; `kafka` and `neve` are what the answers say there."""

    api: ApiKey
    case: str
    where: str
    kafka: Any
    neve: Any
    deviation: str
    reason: str


P, F, M = ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA
A, C, D, K = ApiKey.API_VERSIONS, ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.DESCRIBE_CONFIGS
ALTER = ApiKey.INCREMENTAL_ALTER_CONFIGS

DIFFERENCES: list[Difference] = [
    # Produce
    Difference(
        P, "produce_*", "*.error_message", ANYTHING, SOMETHING, "says why in its message",
        "Kafka leaves most without a message",
    ),
    Difference(
        P, "fetch_of_deleted_topics", "produce *.error_message", None, SOMETHING, "says why in its message",
        "Kafka leaves most without a message",
    ),
    Difference(
        P, "idempotence_without_state", "*.error_message", None, SOMETHING, "says why in its message",
        "Kafka leaves most without a message",
    ),
    Difference(
        P, "produce_*", "*.batch_index_error_message", SOMETHING, SOMETHING, "says why in its message",
        "the wording is ours",
    ),
    Difference(
        P, "produce_*", "*.log_start_offset", 0, -1, "without the log start offset",
        "what is refused at the door never meets the database, which knows the log start",
    ),
    Difference(
        P, "idempotence_without_state", "*.log_start_offset", 0, -1, "without the log start offset",
        "what is refused at the door never meets the database, which knows the log start",
    ),
    Difference(
        P, "idempotence_*", "*.log_append_time", SOMETHING, -1, "The repeat of an idempotent batch",
        "clients would show the batch's largest timestamp for each of its records",
    ),
    *(
        Difference(P, "produce_of_bad_batches", f"{what}*.{field}", kafka, neve, "Batches stay as they are", reason)
        for what, code, reason in (
            ("bytes behind the batch", 87, "Kafka drops them; we store what was sent and checked, or nothing"),
            ("delete horizon bit", 87, "Kafka clears it and makes a new checksum"),
            ("LogAppendTime bit", 32, "Kafka clears it and makes a new checksum"),
        )
        for field, kafka, neve in (("error_code", 0, code), ("base_offset", SOMETHING, -1))
    ),
    *(
        Difference(P, "produce_of_bad_batches", f"{what}: then a good one*", SOMETHING, 0, "Batches stay as they are", reason)
        for what, reason in (
            ("bytes behind the batch", "Kafka stored the batches before"),
            ("delete horizon bit", "Kafka stored the batches before"),
            ("LogAppendTime bit", "Kafka stored the batches before"),
            ("timestamp of 2^63 - 1", "Kafka stored the batches before"),
        )
    ),
    Difference(
        P, "produce_of_bad_batches", "length 2147483647*.error_code", -1, 87, "A length near 2 GiB",
        "the batch is wrong, not the server",
    ),
    Difference(
        P, "produce_of_bad_batches", "compression type*.error_code", -1, 87, "compression type",
        "the batch is wrong, not the server",
    ),
    Difference(
        P, "produce_of_bad_batches", "timestamp of 2^63 - 1*.error_code", 0, 32, "Only on compacted topics are records read",
        "the header's largest timestamp is believed; Kafka computes it from the records",
    ),
    Difference(
        P, "produce_of_bad_batches", "timestamp of 2^63 - 1*.base_offset", SOMETHING, -1,
        "Only on compacted topics are records read", "refused, as above",
    ),
    Difference(
        P, "produce_timestamps", "*.record_errors", SOMETHING, [], "names none of its records",
        "records aren't read, so which of them is out of the window isn't known",
    ),
    Difference(
        P, "produce_timestamps", "times-bound: one of two too old*.error_code", 32, 0,
        "Only on compacted topics are records read", "the smallest timestamp isn't in the header",
    ),
    Difference(
        P, "produce_timestamps", "times-bound: one of two too old*.base_offset", -1, SOMETHING,
        "Only on compacted topics are records read", "stored, as above",
    ),
    Difference(
        P, "produce_timestamps", "times-bound: one of two too old*.error_message", SOMETHING, None,
        "Only on compacted topics are records read", "stored, as above",
    ),
    Difference(
        P, "produce_with_append_time", "the bit set by the client*.record_errors", SOMETHING, [], "says why in its message",
        "the bit is the batch's, so no record is named",
    ),
    *(
        Difference(
            P, "produce_of_records_that_lie", f"{what}: *.{field}", kafka, neve,
            "Only on compacted topics are records read", "reading every record would cost as much as all the rest",
        )
        for what, code in (("a record longer than the batch", 87), ("bytes behind the records", 87), ("garbage said to be gzip", -1))
        for field, kafka, neve in (("error_code", code, 0), ("base_offset", -1, 0))
    ),
    Difference(
        P, "produce_of_records_that_lie", "garbage said to be gzip, compacted*.error_code", -1, 87,
        "records that can't be decompressed", "the batch is wrong, not the server",
    ),
    Difference(
        P, "produce_of_null_records", "*", Nothing.SILENT, SOMETHING, "Null records", "a client that waits for ever helps nobody",
    ),
    Difference(
        P, "produce_in_a_transaction", "an id that nobody has*.error_code", 0, 53, "no transactions yet",
        "a batch in a transaction must not be taken for one without",
    ),
    Difference(
        P, "produce_in_a_transaction", "an id that nobody has*.base_offset", 0, -1, "no transactions yet", "refused, as above",
    ),
    Difference(
        P, "produce_of_a_partition_twice", "in *", SOMETHING, SOMETHING, "A partition that stands twice",
        "Kafka loses the first batch without a word",
    ),
    Difference(
        P, "produce_of_a_partition_twice", "stored*", 5, 9, "A partition that stands twice", "both are stored",
    ),
    # Fetch
    Difference(
        F, "fetch_*", "*.bytes of a batch that isn't whole", SOMETHING, 0, "Only whole batches are returned",
        "clients drop the rest, and it would be read and sent for nothing",
    ),
    Difference(
        F, "fetch_sessions", "*.session_id", 1, 0, "Fetch sessions are declined", "an agent keeps no state of its clients",
    ),
    Difference(
        F, "fetch_as_a_replica", "*.error_code", 6, 31, "A request of a replica", "there are no replicas; Kafka's says that it isn't one of this partition",
    ),
    Difference(
        F, "fetch_of_a_partition_twice", "*", SOMETHING, SOMETHING, "A partition that stands twice", "each is what was asked for",
    ),
    # ListOffsets
    *(
        Difference(
            ApiKey.LIST_OFFSETS, "list_offsets_behind_a_deletion", where, SOMETHING, neve,
            "at and above the log start", "a client can't read what Kafka names there",
        )
        for where, neve in (
            ("from 30: the largest*.timestamp", -1),
            ("from 30: the largest*.offset", -1),
            ("from 30: the largest*.leader_epoch", -1),
            ("stamped: -3*.offset", 4),
        )
    ),
    # Metadata
    *(
        Difference(
            M, "metadata_creates_topics", f"* the answer that creates: .topics.0.{field}", kafka, neve,
            "A topic that is created on demand", "Kafka creates behind the answer, so that clients have to ask again",
        )
        for field, kafka, neve in (("error_code", 3, 0), ("partitions", [], SOMETHING), ("topic_id", None, SOMETHING))
    ),
    Difference(
        M, "metadata_by_id", "* neither: *", ANYTHING, ANYTHING, "A topic with neither name nor id",
        "Kafka stumbles over it (UNKNOWN_SERVER_ERROR)",
    ),
    # ApiVersions
    *(
        Difference(A, "api_versions", f"v[34]: .{field}", SOMETHING, neve, "No features are advertised", "there are none yet")
        for field, neve in (("supported_features", []), ("finalized_features", []), ("finalized_features_epoch", -1))
    ),
    # CreateTopics
    *(
        Difference(C, case, f"{where}*.{field}", kafka, neve, deviation, reason)
        for case, where, code, deviation, reason in (
            ("create_with_counts", "* factor 3: ", 38, "Any replication factor", "the object store keeps the copies"),
            ("create_with_assignments", "another-broker", 39, "any broker ids", "every agent serves every partition"),
        )
        for field, kafka, neve in (
            ("error_code", code, 0), ("error_message", SOMETHING, None), ("topic_id", None, "an id"),
            ("num_partitions", -1, 1), ("replication_factor", -1, 1), ("configs", ANYTHING, SOMETHING),
        )
    ),
    # CreatePartitions
    *(
        Difference(
            ApiKey.CREATE_PARTITIONS, "create_partitions_with_assignments", f"{what}: *.{field}", kafka, neve,
            "Any broker ids", "every agent serves every partition",
        )
        for what in ("another broker", "two copies")
        for field, kafka, neve in (("error_code", 39, 0), ("error_message", SOMETHING, None))
    ),
    # DeleteTopics, DescribeConfigs
    *(
        Difference(api, case, "*.error_message", SOMETHING, None, "its usual message", "tools print their own, the same as Kafka's")
        for api, case in ((D, "delete_by_name"), (D, "delete_by_id"), (K, "describe_what_is_not_there"))
    ),
    *(
        Difference(
            K, "describe_the_broker", f"*.{name}.{field}", SOMETHING, SOMETHING, "own defaults of connections",
            "a process in Python holds fewer, and says so",
        )
        for name in ("max.connections", "max.connections.per.ip")
        for field in ("value", "synonyms.0.value")
    ),
    # IncrementalAlterConfigs
    *(
        Difference(
            ALTER, case, f"{what}*.{field}", kafka, neve, "An operation that there isn't", "the request is wrong, not the server",
        )
        for case, what in (
            ("alter_topic_configs", "* no such operation"), ("alter_topic_configs", "* negative operation"),
            ("alter_loggers", "no such operation"),
        )
        for field, kafka, neve in (("error_code", -1, 42), ("error_message", None, SOMETHING))
    ),
    *(
        Difference(
            ALTER, "alter_broker_configs", f"too many threads{where}", kafka, neve, "numbers of threads", "there are none to grow",
        )
        for where, kafka, neve in (
            ("*.error_code", 42, 0), ("*.error_message", SOMETHING, None),
            (", the node: .1.log.cleaner.threads.value", "2", "100"),
            (", the node: .1.log.cleaner.threads.synonyms.0.value", "2", "100"),
        )
    ),
    # DescribeTopicPartitions
    *(
        Difference(
            ApiKey.DESCRIBE_TOPIC_PARTITIONS, "describe_topic_partitions", f"empty name: *.{field}", kafka, neve,
            "The empty topic name", "the name is wrong, not the server",
        )
        for field, kafka, neve in (("error_code", -1, 17), ("topic_authorized_operations", SOMETHING, SOMETHING))
    ),
    # What keeps tools going
    Difference(
        ApiKey.DESCRIBE_LOG_DIRS, "log_dirs", "*_bytes", SOMETHING, -1, "are not known (-1)",
        "an object store tells neither its size nor what is left",
    ),
    Difference(
        ApiKey.DESCRIBE_PRODUCERS, "producers", "*.last_timestamp", SOMETHING, SOMETHING, "The last timestamp is the moment",
        "the timestamps of a batch aren't kept once it is stored",
    ),
    *(
        Difference(
            ApiKey.ALTER_USER_SCRAM_CREDENTIALS, "scram", f"delete: *.{field}", kafka, neve, "Kafka checks and stores credentials",
            "what would be told as stored would be worth nothing",
        )
        for field, kafka, neve in (("error_code", 91, 54), ("error_message", SOMETHING, SOMETHING))
    ),
    *(
        Difference(
            ApiKey.ALTER_CLIENT_QUOTAS, "quotas_refused", f"not a number: *.{field}", kafka, neve, "A quota that is not a number",
            "nobody could be held to it",
        )
        for field, kafka, neve in (("error_code", 0, 42), ("error_message", None, SOMETHING))
    ),
]  # fmt: skip
