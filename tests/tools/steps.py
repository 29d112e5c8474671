"""What a step of a session is, and which class of Kafka's distribution each tool's script starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Tool(NamedTuple):
    """One script of the distribution, `bin/kafka-<name>.sh`."""

    main: str
    connects: bool = True
    """It takes --bootstrap-server anywhere: a step without an address gets one at its end."""


_TOOLS = "org.apache.kafka.tools."
TOOLS = {
    "topics": Tool(_TOOLS + "TopicCommand"),
    "configs": Tool("kafka.admin.ConfigCommand"),
    "console-producer": Tool(_TOOLS + "ConsoleProducer"),
    "console-consumer": Tool(_TOOLS + "consumer.ConsoleConsumer"),
    "consumer-groups": Tool(_TOOLS + "consumer.group.ConsumerGroupCommand"),
    "groups": Tool(_TOOLS + "GroupsCommand"),
    "share-groups": Tool(_TOOLS + "consumer.group.ShareGroupCommand"),
    "streams-groups": Tool(_TOOLS + "streams.StreamsGroupCommand"),
    "get-offsets": Tool(_TOOLS + "GetOffsetShell"),
    "delete-records": Tool(_TOOLS + "DeleteRecordsCommand"),
    "log-dirs": Tool(_TOOLS + "LogDirsCommand"),
    "broker-api-versions": Tool(_TOOLS + "BrokerApiVersionsCommand"),
    "cluster": Tool(_TOOLS + "ClusterTool"),
    "features": Tool(_TOOLS + "FeatureCommand", connects=False),
    "producer-perf-test": Tool(_TOOLS + "ProducerPerformance"),
    "consumer-perf-test": Tool(_TOOLS + "ConsumerPerformance"),
    "verifiable-producer": Tool(_TOOLS + "VerifiableProducer"),
    "verifiable-consumer": Tool(_TOOLS + "VerifiableConsumer"),
    "leader-election": Tool(_TOOLS + "LeaderElectionCommand"),
    "reassign-partitions": Tool(_TOOLS + "reassign.ReassignPartitionsCommand"),
    "streams-application-reset": Tool(_TOOLS + "StreamsResetter"),
    "client-metrics": Tool(_TOOLS + "ClientMetricsCommand"),
    "acls": Tool(_TOOLS + "AclCommand"),
    "transactions": Tool(_TOOLS + "TransactionsCommand", connects=False),
    "delegation-tokens": Tool(_TOOLS + "DelegationTokenCommand"),
    "e2e-latency": Tool(_TOOLS + "EndToEndLatency"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One line typed into the shell. `{at}` is the broker's address, `{files}` the folder of the session's files."""

    name: str
    tool: str
    arguments: str
    stdin: str = ""
    kind: Literal["run", "start", "stop"] = "run"
    """`start` leaves the tool running once it has printed `until`, `stop` ends it as SIGTERM does."""
    subject: str = ""
    """Which running tool a start or stop is about."""
    until: str = ""
    timeout_ms: int = 20_000
    ordered: bool = True
    """False: the tool prints lines that have no order, such as groups or topics out of a hash table."""
    connects: bool = True
    """False: nothing is added to the arguments."""
