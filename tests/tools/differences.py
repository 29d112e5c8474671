"""Where the screens differ and are meant to: at most ten rows, each with its reason.

A row takes lines away on both sides of the steps it names; what is left has to be the same. A row that takes nothing
away in one of its steps is wrong and fails the test, so nothing stays here that isn't so any more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """One deviation that users of the tools see."""

    what: str
    reason: str
    steps: tuple[str, ...]
    kafka: str | None = None
    """Lines that only Kafka's side prints: a pattern for a whole line."""
    neve: str | None = None
    kafka_ends: str = ""
    """How the tool ends, where that differs too, such as "exit code 1"."""
    neve_ends: str = ""

    def without_kafka(self, lines: list[str]) -> list[str]:
        """Kafka's lines but for those that only it prints."""
        return _without(self.kafka, lines)

    def without_neve(self, lines: list[str]) -> list[str]:
        """Neve's lines but for those that only it prints."""
        return _without(self.neve, lines)


def _without(pattern: str | None, lines: list[str]) -> list[str]:
    return lines if pattern is None else [line for line in lines if not re.fullmatch(pattern, line)]


_OTHER_APIS = "|".join(
    (
        "SaslHandshake|SaslAuthenticate|AddPartitionsToTxn|AddOffsetsToTxn|EndTxn|WriteTxnMarkers|TxnOffsetCommit",
        "ConsumerGroupHeartbeat|ConsumerGroupDescribe|StreamsGroupHeartbeat|StreamsGroupDescribe",
        "ShareGroupHeartbeat|ShareGroupDescribe|ShareFetch|ShareAcknowledge|InitializeShareGroupState|ReadShareGroupState",
        "WriteShareGroupState|DeleteShareGroupState|ReadShareGroupStateSummary|DescribeShareGroupOffsets",
        "AlterShareGroupOffsets|DeleteShareGroupOffsets|AddRaftVoter|RemoveRaftVoter",
    )
)
_STARTED_WITH = "|".join(
    (
        "allow.everyone.if.no.acl.found|super.users|authorizer.class.name|controller.listener.names|controller.quorum.voters",
        "inter.broker.listener.name|listener.security.protocol.map|listeners|process.roles|num.io.threads|num.network.threads",
        "num.partitions|offsets.topic.num.partitions|offsets.topic.replication.factor",
        "share.coordinator.state.topic.min.isr|share.coordinator.state.topic.num.partitions",
        "share.coordinator.state.topic.replication.factor|transaction.state.log.min.isr|transaction.state.log.num.partitions",
        "transaction.state.log.replication.factor|max.connections|max.connections.per.ip",
    )
).replace(".", r"\.")
DIFFERENCES = (
    Difference(
        "A topic that is created on demand is there at once",
        "Kafka creates it behind its first answer, so that producers ask again and warn about it.",
        ("produce-created", "perf-produce"),
        kafka=r"\[TIME\] WARN \[Producer .* recoverable issue .* \{[a-z.]+=UNKNOWN_TOPIC_OR_PARTITION\} \(.*\)",
    ),
    Difference(
        "A refused record's message says more",
        "It names the bytes it has and may have, or what a compacted topic wants; the error itself is the same.",
        ("produce-too-large", "produce-keyless-to-compact"),
        kafka=r"org\.apache\.kafka\.common\.(errors\.RecordTooLargeException: The request included a message larger .*|"
        r"InvalidRecordException: Compacted topic cannot accept message without key in topic partition compact-0)",
        neve=r"org\.apache\.kafka\.common\.(errors\.RecordTooLargeException: the batch has \d+ bytes, .* allows 200|"
        r"InvalidRecordException: a compacted topic takes no record without a key)",
    ),
    Difference(
        "No features to upgrade or downgrade",
        "They are switches of Kafka's metadata log and of replication; there is nothing of that kind to switch.",
        ("features-describe", "features-downgrade-too-far"),
        kafka=r"Feature: \S+\.version +SupportedMinVersion: .*|kraft\.version was downgraded to 0\.",
        neve=r"Could not downgrade kraft\.version to 0\. .* Feature kraft\.version not found\.|1 out of 1 .* failed\.",
        kafka_ends="exit code 0",
        neve_ends="exit code 1",
    ),
    Difference(
        "Fewer APIs",
        "Transactions, SASL and the newer kinds of groups aren't served yet; voters of a metadata quorum never will be.",
        ("api-versions",),
        kafka=rf"\t(?:{_OTHER_APIS})\(\d+\): .*",
        neve=rf"\t(?:{_OTHER_APIS})\(\d+\): UNSUPPORTED,?",
    ),
    Difference(
        "Any replication factor and any replica assignment are taken",
        "The object store keeps the copies, and every agent serves every partition.",
        ("topics-create-three-replicas", "topics-create-elsewhere"),
        kafka=r"Error while executing .* (Unable to replicate the partition 3 time|The manual partition assignment).*|"
        r"\[TIME\] ERROR \S+\.InvalidReplica(tionFactor|Assignment)Exception: .*| \(org\.apache\.kafka\.tools\.TopicCommand\)",
        neve=r"Created topic (triple|elsewhere)\.",
        kafka_ends="exit code 1",
        neve_ends="exit code 0",
    ),
    Difference(
        "No internal topics",
        "Committed offsets are kept in the metadata database.",
        ("topics-list-all-at-the-end",),
        kafka=r"__(consumer_offsets|transaction_state)",
    ),
    Difference(
        "Topics have configs of their own",
        "`iceberg.*` says how a topic becomes a table.",
        ("configs-topic-all",),
        neve=r"  iceberg\.[a-z.]+=\S* sensitive=false synonyms=\{\}",
    ),
    Difference(
        "No SCRAM credentials",
        "There is no authentication yet that would ask for them.",
        ("configs-scram", "configs-scram-delete-unknown"),
        kafka=r"Completed updating config for user alice\.|.*\.ResourceNotFoundException: Attempt to delete .*|"
        r"Error while executing config command with args .*|\tat .*",
        neve=r".*\.SecurityDisabledException: SCRAM .*|Error while executing config command with args .*|\tat .*",
        kafka_ends="exit code 0",
        neve_ends="exit code 1",
    ),
    Difference(
        "What a broker was started with",
        "The Kafka of the test has a controller of its own and topics for offsets, transactions and share groups on one node, "
        "and no limit of connections; all its other 300 configs are shown alike.",
        ("configs-broker-all",),
        kafka=rf"  (?:{_STARTED_WITH})=.*",
        neve=rf"  (?:{_STARTED_WITH})=.*",
    ),
    Difference(
        "No share groups and no transactions",
        "They come later; asking for one that isn't there is answered in other words.",
        ("share-groups-describe-unknown", "transactions-describe-unknown"),
        kafka=r".*\.GroupIdNotFoundException: Group nobody not found\.|.* because the ID could not be found\..*",
        neve=r".*\.UnsupportedVersionException: The node does not support SHARE_GROUP_DESCRIBE|"
        r".* failed due to authorization failure\..*",
    ),
)
