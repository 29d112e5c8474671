"""The session: what is typed, in order, with good and bad input. Both sides start empty.

A step sees what those before it left behind, so new ones belong where their topics and groups are; names are unique.
"""

from __future__ import annotations

from tests.tools.steps import Step

LONG = "x" * 250
FILES = {
    "delete.json": '{"partitions": [{"topic": "plain", "partition": 0, "offset": 2}], "version": 1}',
    "delete-all.json": '{"partitions": [{"topic": "keyed", "partition": 1, "offset": -1}], "version": 1}',
    "delete-beyond.json": '{"partitions": [{"topic": "plain", "partition": 0, "offset": 99}], "version": 1}',
    "delete-unknown.json": '{"partitions": [{"topic": "nowhere", "partition": 0, "offset": 1}]}',
    "delete-twice.json": '{"partitions": [{"topic": "plain", "partition": 0, "offset": 1}, {"topic": "plain", "partition": 0, "offset": 2}]}',
    "broken.json": '{"partitions": [',
    "election.json": '{"partitions": [{"topic": "keyed", "partition": 0}, {"topic": "keyed", "partition": 1}]}',
    "election-unknown.json": '{"partitions": [{"topic": "nowhere", "partition": 0}]}',
    "move.json": '{"topics": [{"topic": "keyed"}], "version": 1}',
    "assignment.json": '{"version": 1, "partitions": [{"topic": "keyed", "partition": 0, "replicas": [1]}]}',
    "offsets.csv": "keyed,0,1\nkeyed,1,0\n",
    "offsets-beyond.csv": "keyed,0,999\nkeyed,2,-5\n",
    "offsets-broken.csv": "keyed,zero,1\n",
    "topic.properties": "retention.ms=7200000\nsegment.bytes=2097152\n",
    "producer.properties": "acks=all\nlinger.ms=0\nclient.id=from-a-file\n",
    "consumer.properties": "group.id=from-file\nauto.offset.reset=earliest\n",
    "hurried.properties": "default.api.timeout.ms=1500\nrequest.timeout.ms=1000\n",
    "payload.txt": "one\ntwo\nthree\n",
}
_READER = "--reader-property"
_SHOW = "--formatter-property"


def run(name: str, tool: str, arguments: str = "", stdin: str = "", *, timeout_ms: int = 20_000) -> Step:
    """A tool from start to end."""
    return Step(name, tool, arguments, stdin, timeout_ms=timeout_ms)


def loose(name: str, tool: str, arguments: str = "") -> Step:
    """A tool from start to end that prints what has no order."""
    return Step(name, tool, arguments, ordered=False)


def bare(name: str, tool: str, arguments: str = "") -> Step:
    """A tool whose arguments get no address."""
    return Step(name, tool, arguments, connects=False)


def start(name: str, tool: str, arguments: str, until: str) -> Step:
    """A tool that stays."""
    return Step(name, tool, arguments, kind="start", subject=name.removeprefix("start-"), until=until)


def end(name: str, tool: str) -> Step:
    """The end of one that stayed."""
    return Step(name, tool, "", kind="stop", subject=name.removeprefix("stop-"))


CLUSTER = [
    run("cluster-id", "cluster", "cluster-id"),
    run("cluster-endpoints", "cluster", "list-endpoints"),
    run("cluster-endpoints-fenced", "cluster", "list-endpoints --include-fenced-brokers"),
    run("cluster-unregister-unknown", "cluster", "unregister --id 99"),
    bare("cluster-without-address", "cluster", "cluster-id"),
    run("api-versions", "broker-api-versions"),
    run("features-describe", "features", "--bootstrap-server {at} describe"),
    run("features-upgrade-unknown", "features", "--bootstrap-server {at} upgrade --feature no.such.version=1"),
    run("features-downgrade-too-far", "features", "--bootstrap-server {at} downgrade --feature kraft.version=0"),
    run("features-version-mapping", "features", "--bootstrap-server {at} version-mapping --release-version 4.3-IV0"),
    run(
        "features-dependencies",
        "features",
        "--bootstrap-server {at} feature-dependencies --feature transaction.version=2",
    ),
    run("features-nothing", "features", "--bootstrap-server {at}"),
]

TOPICS = [
    run("topics-list-none", "topics", "--list"),
    run("topics-describe-none", "topics", "--describe"),
    run("topics-create", "topics", "--create --topic plain --partitions 1 --replication-factor 1"),
    run("topics-create-three", "topics", "--create --topic keyed --partitions 3"),
    run("topics-create-default", "topics", "--create --topic default"),
    run(
        "topics-create-compact",
        "topics",
        "--create --topic compact --config cleanup.policy=compact --config segment.ms=3600000",
    ),
    run(
        "topics-create-small",
        "topics",
        "--create --topic small --config max.message.bytes=200 --config message.timestamp.type=LogAppendTime",
    ),
    run("topics-create-assigned", "topics", "--create --topic assigned --replica-assignment 1,1"),
    run("topics-create-dotted", "topics", "--create --topic dotted.name"),
    run("topics-create-again", "topics", "--create --topic plain"),
    run("topics-create-again-if-not-exists", "topics", "--create --topic plain --if-not-exists"),
    run("topics-create-bad-name", "topics", "--create --topic bad/name"),
    run("topics-create-dot", "topics", "--create --topic ."),
    run("topics-create-long", "topics", f"--create --topic {LONG}"),
    run("topics-create-no-partitions", "topics", "--create --topic none --partitions 0"),
    run("topics-create-three-replicas", "topics", "--create --topic triple --replication-factor 3"),
    run("topics-create-elsewhere", "topics", "--create --topic elsewhere --replica-assignment 7"),
    run("topics-create-uneven", "topics", "--create --topic uneven --replica-assignment 1:2,1"),
    run("topics-create-alike", "topics", "--create --topic dotted_name"),
    run("topics-create-unknown-config", "topics", "--create --topic never --config no.such.config=1"),
    run("topics-create-bad-value", "topics", "--create --topic never --config retention.ms=soon"),
    run("topics-create-bad-policy", "topics", "--create --topic never --config cleanup.policy=burn"),
    run("topics-create-nameless", "topics", "--create"),
    run("topics-delete-what-should-not-be", "topics", "--delete --topic triple|elsewhere|dotted_name --if-exists"),
    run("topics-list", "topics", "--list"),
    run("topics-list-pattern", "topics", "--list --topic .*e.*"),
    run("topics-describe", "topics", "--describe --topic keyed"),
    run("topics-describe-all", "topics", "--describe"),
    run("topics-describe-page", "topics", "--describe --topic keyed --partition-size-limit-per-response 1"),
    run("topics-describe-pattern", "topics", "--describe --topic comp.*,pl.*"),
    run("topics-describe-overrides", "topics", "--describe --topics-with-overrides"),
    run("topics-describe-unavailable", "topics", "--describe --unavailable-partitions"),
    run("topics-describe-under-replicated", "topics", "--describe --under-replicated-partitions"),
    run("topics-describe-at-min-isr", "topics", "--describe --at-min-isr-partitions --topic keyed"),
    run("topics-describe-under-min-isr", "topics", "--describe --under-min-isr-partitions"),
    run("topics-describe-unknown", "topics", "--describe --topic nowhere"),
    run("topics-describe-unknown-if-exists", "topics", "--describe --topic nowhere --if-exists"),
    run("topics-describe-unknown-id", "topics", "--describe --topic-id AAAAAAAAAAAAAAAAAAAABQ"),
    run("topics-describe-no-id", "topics", "--describe --topic-id what"),
    run("topics-alter", "topics", "--alter --topic default --partitions 2"),
    run("topics-alter-fewer", "topics", "--alter --topic keyed --partitions 1"),
    run("topics-alter-same", "topics", "--alter --topic keyed --partitions 3"),
    run("topics-alter-unknown", "topics", "--alter --topic nowhere --partitions 3"),
    run("topics-alter-unknown-if-exists", "topics", "--alter --topic nowhere --partitions 3 --if-exists"),
    run("topics-alter-assigned", "topics", "--alter --topic assigned --partitions 3 --replica-assignment 1,1,1"),
    loose("topics-alter-config", "topics", "--alter --topic keyed --config retention.ms=1"),
    run("topics-alter-nothing", "topics", "--alter --topic keyed"),
    run("topics-describe-altered", "topics", "--describe --topic default"),
    bare("topics-without-address", "topics", "--list"),
    run("topics-two-actions", "topics", "--list --create --topic plain"),
    run("topics-unknown-option", "topics", "--list --everything"),
    run("topics-version", "topics", "--version"),
]

_TOPIC = "--entity-type topics --entity-name"
CONFIGS = [
    run("configs-topic", "configs", f"--describe {_TOPIC} compact"),
    run("configs-topic-without", "configs", "--describe --topic keyed"),
    run("configs-topic-all", "configs", "--describe --topic compact --all"),
    run("configs-topics", "configs", "--describe --entity-type topics"),
    run("configs-topic-unknown", "configs", "--describe --topic nowhere"),
    run("configs-topic-bad-name", "configs", "--describe --topic bad/name"),
    run("configs-add", "configs", f"--alter {_TOPIC} keyed --add-config retention.ms=86400000,min.insync.replicas=1"),
    run(
        "configs-add-list",
        "configs",
        f"--alter {_TOPIC} keyed --add-config cleanup.policy=[delete,compact],flush.ms=1000",
    ),
    run("configs-added", "configs", "--describe --topic keyed"),
    run("configs-add-file", "configs", f"--alter {_TOPIC} default --add-config-file {{files}}/topic.properties"),
    run("configs-added-file", "configs", "--describe --topic default"),
    run("configs-add-bad-value", "configs", f"--alter {_TOPIC} keyed --add-config retention.ms=soon"),
    run("configs-add-out-of-range", "configs", f"--alter {_TOPIC} keyed --add-config min.cleanable.dirty.ratio=2"),
    run("configs-add-bad-word", "configs", f"--alter {_TOPIC} keyed --add-config compression.type=rar"),
    run("configs-add-bad-list", "configs", f"--alter {_TOPIC} keyed --add-config cleanup.policy=[delete,burn]"),
    run("configs-add-unknown", "configs", f"--alter {_TOPIC} keyed --add-config no.such.config=1"),
    run("configs-add-nowhere", "configs", f"--alter {_TOPIC} nowhere --add-config retention.ms=1"),
    run("configs-add-broken", "configs", f"--alter {_TOPIC} keyed --add-config retention.ms"),
    run(
        "configs-delete",
        "configs",
        f"--alter {_TOPIC} keyed --delete-config cleanup.policy,flush.ms,min.insync.replicas",
    ),
    run("configs-delete-not-set", "configs", f"--alter {_TOPIC} keyed --delete-config flush.messages"),
    run("configs-delete-unknown", "configs", f"--alter {_TOPIC} keyed --delete-config no.such.config"),
    run("configs-deleted", "configs", "--describe --topic keyed"),
    run("configs-broker", "configs", "--describe --entity-type brokers --entity-name 1"),
    run("configs-broker-all", "configs", "--describe --broker 1 --all"),
    run("configs-broker-defaults", "configs", "--describe --broker-defaults"),
    run("configs-broker-unknown", "configs", "--describe --broker 99"),
    run("configs-broker-no-number", "configs", "--describe --broker one"),
    run("configs-broker-logger", "configs", "--describe --broker-logger 99"),
    run(
        "configs-broker-alter-unknown",
        "configs",
        "--alter --broker 99 --add-config log.retention.ms=1 --command-config {files}/hurried.properties",
    ),
    run("configs-broker-alter-read-only", "configs", "--alter --broker 1 --add-config num.partitions=5"),
    run(
        "configs-client",
        "configs",
        "--alter --client app --add-config producer_byte_rate=1048576,consumer_byte_rate=2097152",
    ),
    run("configs-client-default", "configs", "--alter --client-defaults --add-config request_percentage=200"),
    run("configs-user", "configs", "--alter --user alice --add-config consumer_byte_rate=1e6"),
    run("configs-user-client", "configs", "--alter --user alice --client app --add-config producer_byte_rate=77"),
    run("configs-user-default", "configs", "--alter --user-defaults --add-config controller_mutation_rate=10"),
    run("configs-ip", "configs", "--alter --ip 192.0.2.1 --add-config connection_creation_rate=50"),
    run("configs-ip-bad", "configs", "--alter --ip not..an..address --add-config connection_creation_rate=50"),
    run("configs-ip-bad-key", "configs", "--alter --ip 192.0.2.1 --add-config producer_byte_rate=50"),
    run("configs-client-bad-key", "configs", "--alter --client app --add-config no_such_rate=1"),
    run("configs-client-bad-value", "configs", "--alter --client app --add-config producer_byte_rate=fast"),
    run("configs-client-fraction", "configs", "--alter --client app --add-config producer_byte_rate=1.5"),
    run("configs-client-negative", "configs", "--alter --client app --add-config producer_byte_rate=-1"),
    run("configs-client-describe", "configs", "--describe --client app"),
    run("configs-clients-describe", "configs", "--describe --entity-type clients"),
    run("configs-user-describe", "configs", "--describe --user alice"),
    run("configs-users-describe", "configs", "--describe --entity-type users"),
    run(
        "configs-user-client-describe",
        "configs",
        "--describe --entity-type users --entity-name alice --entity-type clients --entity-name app",
    ),
    run("configs-users-clients-describe", "configs", "--describe --entity-type users --entity-type clients"),
    run("configs-user-defaults-describe", "configs", "--describe --user-defaults"),
    run("configs-ips-describe", "configs", "--describe --entity-type ips"),
    run("configs-client-delete", "configs", "--alter --client app --delete-config producer_byte_rate"),
    run("configs-client-delete-twice", "configs", "--alter --client app --delete-config producer_byte_rate"),
    run("configs-client-deleted", "configs", "--describe --client app"),
    run("configs-client-default-delete", "configs", "--alter --client-defaults --delete-config request_percentage"),
    run("configs-user-default-delete", "configs", "--alter --user-defaults --delete-config controller_mutation_rate"),
    run(
        "configs-scram", "configs", "--alter --user alice --add-config SCRAM-SHA-256=[iterations=8192,password=secret]"
    ),
    run(
        "configs-scram-few-iterations",
        "configs",
        "--alter --user alice --add-config SCRAM-SHA-256=[iterations=1,password=secret]",
    ),
    run("configs-scram-delete-unknown", "configs", "--alter --user bob --delete-config SCRAM-SHA-512"),
    run("configs-group", "configs", "--alter --group readers --add-config consumer.session.timeout.ms=50000"),
    run("configs-group-bad", "configs", "--alter --group readers --add-config no.such.config=1"),
    run("configs-group-describe", "configs", "--describe --group readers"),
    run("configs-group-delete", "configs", "--alter --group readers --delete-config consumer.session.timeout.ms"),
    run("configs-no-entity", "configs", "--describe"),
    run("configs-bad-entity", "configs", "--describe --entity-type planets"),
    run("configs-alter-nothing", "configs", f"--alter {_TOPIC} keyed"),
]

METRICS = [
    run("client-metrics-list-none", "client-metrics", "--list"),
    run(
        "client-metrics-alter",
        "client-metrics",
        "--alter --name basic --metrics org.apache.kafka.producer. --interval 60000 --match client_id=.*",
    ),
    run("client-metrics-list", "client-metrics", "--list"),
    run("client-metrics-describe", "client-metrics", "--describe --name basic"),
    run("client-metrics-describe-all", "client-metrics", "--describe"),
    run("client-metrics-describe-unknown", "client-metrics", "--describe --name nothing"),
    run("client-metrics-bad-interval", "client-metrics", "--alter --name basic --interval 1"),
    run("client-metrics-bad-match", "client-metrics", "--alter --name basic --match planet=mars"),
    run("client-metrics-configs", "configs", "--describe --entity-type client-metrics --entity-name basic"),
    run("client-metrics-delete", "client-metrics", "--delete --name basic"),
    run("client-metrics-delete-unknown", "client-metrics", "--delete --name basic"),
    run("client-metrics-nameless", "client-metrics", "--alter --interval 60000"),
]

PRODUCE = [
    run("produce-plain", "console-producer", "--topic plain", "first\nsecond\nthird\nfourth\n\nsixth"),
    run("produce-sync", "console-producer", "--topic plain --sync --request-required-acks 1", "seventh\n"),
    run(
        "produce-keyed",
        "console-producer",
        f"--topic keyed {_READER} parse.key=true {_READER} key.separator=:",
        "a:1\nb:2\nc:3\na:4\nb:5\nd:6\n",
    ),
    run(
        "produce-headers",
        "console-producer",
        f"--topic compact {_READER} parse.key=true {_READER} parse.headers=true {_READER} null.marker=NIL",
        "h1:v1,h2:v2\tk1\tvalue\nh1:NIL\tk2\tNIL\n",
    ),
    run(
        "produce-without-separator", "console-producer", f"--topic keyed {_READER} parse.key=true", "nothing to split\n"
    ),
    run(
        "produce-ignore-error",
        "console-producer",
        f"--topic plain {_READER} parse.key=true {_READER} key.separator=: {_READER} ignore.error=true",
        "whole\n",
    ),
    *(
        run(
            f"produce-{codec}",
            "console-producer",
            f"--topic dotted.name --compression-codec {codec}",
            f"{codec} 1\n{codec} 2\n",
        )
        for codec in ("gzip", "snappy", "lz4", "zstd", "none")
    ),
    run("produce-bad-codec", "console-producer", "--topic plain --compression-codec rar", "x\n"),
    run(
        "produce-file",
        "console-producer",
        "--topic plain --command-config {files}/producer.properties --command-property client.id=other",
        "eighth\n",
    ),
    run("produce-nothing", "console-producer", "--topic plain", ""),
    run("produce-created", "console-producer", "--topic on.demand", "made by this\n"),
    run("produce-bad-name", "console-producer", "--topic bad/name --max-block-ms 1500", "x\n"),
    run("produce-too-large", "console-producer", "--topic small", "y" * 400 + "\n"),
    run("produce-small-enough", "console-producer", "--topic small", "y" * 20 + "\n"),
    run("produce-keyless-to-compact", "console-producer", "--topic compact", "no key\n"),
    run("produce-acks-nonsense", "console-producer", "--topic plain --request-required-acks 5", "x\n"),
    run("produce-nowhere", "console-producer", "", "x\n"),
    run("produce-bad-reader", "console-producer", "--topic plain --line-reader no.such.Reader", "x\n"),
]

_ALL = f"{_SHOW} print.key=true {_SHOW} print.timestamp=true {_SHOW} print.partition=true {_SHOW} print.offset=true {_SHOW} print.headers=true {_SHOW} print.epoch=true {_SHOW} print.delivery=true"
CONSUME = [
    run(
        "consume-from-beginning", "console-consumer", "--topic plain --from-beginning --max-messages 8 --group readers"
    ),
    run("consume-partition", "console-consumer", "--topic keyed --partition 1 --offset earliest --max-messages 3"),
    run(
        "consume-everything-shown",
        "console-consumer",
        f"--topic compact --partition 0 --offset 0 --max-messages 2 {_ALL}",
    ),
    run(
        "consume-everything-named",
        "console-consumer",
        f"--topic compact --partition 0 --offset 0 --max-messages 2 {_ALL} {_SHOW} null.literal=NIL",
    ),
    run(
        "consume-append-time",
        "console-consumer",
        f"--topic small --from-beginning --max-messages 1 --group small {_ALL}",
    ),
    run(
        "consume-codecs",
        "console-consumer",
        f"--topic dotted.name --partition 0 --offset earliest --max-messages 10 {_SHOW} print.offset=true",
    ),
    run(
        "consume-separators",
        "console-consumer",
        f"--topic keyed --partition 2 --offset earliest --max-messages 1 {_SHOW} print.key=true {_SHOW} key.separator=-> {_SHOW} line.separator=;",
    ),
    run("consume-offset", "console-consumer", "--topic plain --partition 0 --offset 5 --max-messages 2"),
    run("consume-latest", "console-consumer", "--topic plain --partition 0 --offset latest --timeout-ms 1000"),
    run(
        "consume-beyond",
        "console-consumer",
        "--topic plain --partition 0 --offset 99 --max-messages 1 --timeout-ms 1500",
    ),
    run(
        "consume-beyond-refused",
        "console-consumer",
        "--topic plain --partition 0 --offset 99 --timeout-ms 5000 --command-property auto.offset.reset=none",
    ),
    run(
        "consume-committed",
        "console-consumer",
        "--topic plain --isolation-level read_committed --from-beginning --max-messages 3 --group committed",
    ),
    run(
        "consume-include",
        "console-consumer",
        "--include (on.dem|nothing).* --from-beginning --max-messages 1 --group pattern",
    ),
    run("consume-again", "console-consumer", "--topic plain --group readers --timeout-ms 3000"),
    run(
        "consume-file",
        "console-consumer",
        "--topic plain --command-config {files}/consumer.properties --max-messages 2",
    ),
    run(
        "consume-wrong-type",
        "console-consumer",
        "--topic plain --partition 0 --offset 0 --max-messages 1 --value-deserializer org.apache.kafka.common.serialization.IntegerDeserializer",
    ),
    run(
        "consume-wrong-type-skipped",
        "console-consumer",
        "--topic plain --partition 0 --offset 0 --max-messages 2 --skip-message-on-error --value-deserializer org.apache.kafka.common.serialization.IntegerDeserializer",
    ),
    run(
        "consume-no-op",
        "console-consumer",
        "--topic plain --partition 0 --offset 0 --max-messages 2 --formatter org.apache.kafka.tools.consumer.NoOpMessageFormatter --enable-systest-events",
    ),
    run("consume-unknown-partition", "console-consumer", "--topic plain --partition 7 --offset 0 --timeout-ms 1000"),
    run("consume-bad-name", "console-consumer", "--topic bad/name --partition 0 --offset 0 --timeout-ms 1500"),
    loose("consume-two-sources", "console-consumer", "--topic plain --include keyed"),
    loose("consume-no-source", "console-consumer", "--from-beginning"),
    run("consume-offset-nonsense", "console-consumer", "--topic plain --partition 0 --offset middle"),
    run("consume-offset-alone", "console-consumer", "--topic plain --offset 3"),
    run("consume-two-groups", "console-consumer", "--topic plain --group one --command-property group.id=two"),
]

_KEYED = "--group work --topic keyed"
GROUPS = [
    loose("groups-list", "consumer-groups", "--list"),
    loose("groups-list-state", "consumer-groups", "--list --state"),
    loose("groups-list-state-empty", "consumer-groups", "--list --state Empty"),
    loose("groups-list-state-nonsense", "consumer-groups", "--list --state Tired"),
    loose("groups-list-type", "consumer-groups", "--list --type"),
    loose("groups-list-type-classic", "consumer-groups", "--list --type classic --state stable,empty"),
    loose("groups-all-list", "groups", "--list"),
    loose("groups-all-list-consumer", "groups", "--list --consumer"),
    loose("groups-all-list-protocol", "groups", "--list --protocol consumer --group-type classic"),
    run("groups-all-list-share", "groups", "--list --share"),
    run("groups-describe", "consumer-groups", "--describe --group readers"),
    run("groups-describe-members", "consumer-groups", "--describe --group readers --members"),
    run("groups-describe-state", "consumer-groups", "--describe --group readers --state"),
    run("groups-describe-verbose", "consumer-groups", "--describe --group readers --verbose"),
    run("groups-describe-unknown", "consumer-groups", "--describe --group nobody"),
    run("groups-describe-unknown-members", "consumer-groups", "--describe --group nobody --members"),
    run("groups-describe-unknown-state", "consumer-groups", "--describe --group nobody --state"),
    start(
        "start-worker",
        "verifiable-consumer",
        "--topic keyed --group-id work --session-timeout 10000 --group-instance-id worker-1",
        "offsets_committed",
    ),
    run("groups-describe-active", "consumer-groups", "--describe --group work"),
    run("groups-describe-active-members", "consumer-groups", "--describe --group work --members"),
    run("groups-describe-active-members-verbose", "consumer-groups", "--describe --group work --members --verbose"),
    run("groups-describe-active-state", "consumer-groups", "--describe --group work --state"),
    run("groups-list-active", "consumer-groups", "--list --state stable"),
    run("groups-reset-active", "consumer-groups", f"--reset-offsets {_KEYED} --to-earliest --execute"),
    run("groups-delete-active", "consumer-groups", "--delete --group work"),
    run("groups-delete-offsets-active", "consumer-groups", f"--delete-offsets {_KEYED}"),
    end("stop-worker", "verifiable-consumer"),
    run("groups-describe-static-gone", "consumer-groups", "--describe --group work --members"),
    run(
        "groups-reset-earliest-dry",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-earliest --dry-run",
    ),
    run(
        "groups-reset-earliest",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-earliest --execute",
    ),
    run(
        "groups-reset-latest", "consumer-groups", "--reset-offsets --group readers --topic plain --to-latest --execute"
    ),
    run(
        "groups-reset-offset",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-offset 3 --execute",
    ),
    run(
        "groups-reset-offset-beyond",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-offset 300 --execute",
    ),
    run(
        "groups-reset-shift", "consumer-groups", "--reset-offsets --group readers --topic plain --shift-by -2 --execute"
    ),
    run(
        "groups-reset-shift-too-far",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --shift-by -200 --execute",
    ),
    run(
        "groups-reset-current",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-current --dry-run",
    ),
    run(
        "groups-reset-datetime",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-datetime 2020-01-01T00:00:00.000 --dry-run",
    ),
    run(
        "groups-reset-datetime-future",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-datetime 2100-01-01T00:00:00.000+02:00 --dry-run",
    ),
    run(
        "groups-reset-datetime-bad",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-datetime yesterday",
    ),
    run(
        "groups-reset-duration",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --by-duration PT1H --dry-run",
    ),
    run(
        "groups-reset-duration-bad", "consumer-groups", "--reset-offsets --group readers --topic plain --by-duration 1h"
    ),
    run(
        "groups-reset-file",
        "consumer-groups",
        "--reset-offsets --group fresh --from-file {files}/offsets.csv --execute",
    ),
    run(
        "groups-reset-file-beyond",
        "consumer-groups",
        "--reset-offsets --group fresh --from-file {files}/offsets-beyond.csv --dry-run",
    ),
    run(
        "groups-reset-file-broken",
        "consumer-groups",
        "--reset-offsets --group fresh --from-file {files}/offsets-broken.csv --dry-run",
    ),
    run(
        "groups-reset-file-missing",
        "consumer-groups",
        "--reset-offsets --group fresh --from-file {files}/no-such.csv --dry-run",
    ),
    run("groups-reset-export", "consumer-groups", "--reset-offsets --group fresh --all-topics --to-current --export"),
    run(
        "groups-reset-partition",
        "consumer-groups",
        "--reset-offsets --group fresh --topic keyed:2 --to-latest --execute",
    ),
    run(
        "groups-reset-partitions",
        "consumer-groups",
        "--reset-offsets --group fresh --topic keyed:0,1 --topic plain --to-earliest --execute",
    ),
    run(
        "groups-reset-all-topics", "consumer-groups", "--reset-offsets --group fresh --all-topics --to-latest --execute"
    ),
    run(
        "groups-reset-several",
        "consumer-groups",
        "--reset-offsets --group fresh --group readers --topic plain --to-earliest --dry-run",
    ),
    run(
        "groups-reset-unknown-topic",
        "consumer-groups",
        "--reset-offsets --group fresh --topic nowhere --to-earliest --dry-run",
    ),
    run(
        "groups-reset-unknown-partition",
        "consumer-groups",
        "--reset-offsets --group fresh --topic plain:9 --to-earliest --dry-run",
    ),
    loose("groups-reset-no-scenario", "consumer-groups", "--reset-offsets --group fresh --topic plain"),
    run(
        "groups-reset-two-scenarios",
        "consumer-groups",
        "--reset-offsets --group fresh --topic plain --to-latest --to-earliest",
    ),
    run(
        "groups-reset-nobody", "consumer-groups", "--reset-offsets --group nobody --all-topics --to-earliest --dry-run"
    ),
    run("groups-describe-reset", "consumer-groups", "--describe --group fresh --offsets"),
    run("groups-describe-all", "consumer-groups", "--describe --all-groups --state"),
    run("groups-describe-two", "consumer-groups", "--describe --group fresh --group readers --offsets"),
    run("groups-delete-offsets", "consumer-groups", "--delete-offsets --group fresh --topic plain"),
    run("groups-delete-offsets-again", "consumer-groups", "--delete-offsets --group fresh --topic plain"),
    run("groups-delete-offsets-unknown", "consumer-groups", "--delete-offsets --group fresh --topic nowhere"),
    run("groups-delete-offsets-nobody", "consumer-groups", "--delete-offsets --group nobody --topic plain"),
    run("groups-delete", "consumer-groups", "--delete --group fresh"),
    run("groups-delete-unknown", "consumer-groups", "--delete --group fresh --group pattern"),
    run("groups-regex", "consumer-groups", "--validate-regex ab+c"),
    run("groups-regex-bad", "consumer-groups", "--validate-regex ab(c"),
    run("groups-nothing", "consumer-groups", "--group fresh"),
    loose("groups-describe-no-group", "consumer-groups", "--describe"),
    loose("groups-list-left", "consumer-groups", "--list"),
    run("share-groups-list", "share-groups", "--list"),
    run("share-groups-describe-unknown", "share-groups", "--describe --group nobody"),
    run("streams-groups-list", "streams-groups", "--list"),
]

OFFSETS = [
    run("offsets", "get-offsets", "--exclude-internal-topics"),
    run("offsets-topic", "get-offsets", "--topic keyed"),
    run("offsets-pattern", "get-offsets", "--topic .*e.* --exclude-internal-topics --time earliest"),
    run("offsets-partitions", "get-offsets", "--topic keyed --partitions 0,2"),
    run("offsets-topic-partitions", "get-offsets", "--topic-partitions keyed:0-2,plain:0,compact:0-"),
    *(
        run(f"offsets-{name}", "get-offsets", f"--topic plain --time {time}")
        for name, time in (
            ("latest", "-1"),
            ("earliest", "-2"),
            ("max-timestamp", "-3"),
            ("earliest-local", "-4"),
            ("latest-tiered", "-5"),
            ("earliest-pending", "earliest-pending-upload"),
            ("in-2020", "1577836800000"),
            ("in-2100", "4102444800000"),
        )
    ),
    run("offsets-unknown-topic", "get-offsets", "--topic nowhere"),
    run("offsets-unknown-partition", "get-offsets", "--topic plain --partitions 5"),
    run("offsets-bad-time", "get-offsets", "--topic plain --time noon"),
    run("offsets-bad-partitions", "get-offsets", "--topic plain --partitions x"),
    run("offsets-both", "get-offsets", "--topic plain --topic-partitions plain:0"),
    run("delete-records", "delete-records", "--offset-json-file {files}/delete.json"),
    run("delete-records-again", "delete-records", "--offset-json-file {files}/delete.json"),
    run("delete-records-all", "delete-records", "--offset-json-file {files}/delete-all.json"),
    run("delete-records-beyond", "delete-records", "--offset-json-file {files}/delete-beyond.json"),
    run(
        "delete-records-unknown",
        "delete-records",
        "--offset-json-file {files}/delete-unknown.json --command-config {files}/hurried.properties",
    ),
    run("delete-records-twice", "delete-records", "--offset-json-file {files}/delete-twice.json"),
    run("delete-records-broken", "delete-records", "--offset-json-file {files}/broken.json"),
    run("delete-records-no-file", "delete-records", "--offset-json-file {files}/no-such.json"),
    run("offsets-after-delete", "get-offsets", "--topic-partitions plain:0,keyed:1 --time earliest"),
    run(
        "consume-after-delete",
        "console-consumer",
        f"--topic plain --partition 0 --offset earliest --max-messages 2 {_SHOW} print.offset=true",
    ),
    run(
        "consume-below-start",
        "console-consumer",
        f"--topic plain --partition 0 --offset 0 --max-messages 1 {_SHOW} print.offset=true --command-property auto.offset.reset=earliest",
    ),
    run(
        "groups-reset-below-start",
        "consumer-groups",
        "--reset-offsets --group readers --topic plain --to-offset 0 --execute",
    ),
    run("groups-describe-after-delete", "consumer-groups", "--describe --group readers"),
]

REPLICAS = [
    run("log-dirs", "log-dirs", "--describe --topic-list plain,keyed"),
    run("log-dirs-broker", "log-dirs", "--describe --broker-list 1 --topic-list compact"),
    run("log-dirs-unknown-broker", "log-dirs", "--describe --broker-list 1,99"),
    run("log-dirs-unknown-topic", "log-dirs", "--describe --topic-list nowhere"),
    run("log-dirs-no-number", "log-dirs", "--describe --broker-list one"),
    run("election", "leader-election", "--election-type preferred --topic keyed --partition 0"),
    run("election-all", "leader-election", "--election-type preferred --all-topic-partitions"),
    run("election-file", "leader-election", "--election-type preferred --path-to-json-file {files}/election.json"),
    run("election-unclean", "leader-election", "--election-type unclean --topic keyed --partition 1"),
    run("election-unknown", "leader-election", "--election-type preferred --topic nowhere --partition 0"),
    run("election-unknown-partition", "leader-election", "--election-type preferred --topic keyed --partition 9"),
    run(
        "election-file-unknown",
        "leader-election",
        "--election-type unclean --path-to-json-file {files}/election-unknown.json",
    ),
    run("election-nonsense", "leader-election", "--election-type fair --topic keyed --partition 0"),
    run("election-partition-missing", "leader-election", "--election-type preferred --topic keyed"),
    run("reassign-list", "reassign-partitions", "--list"),
    run(
        "reassign-generate",
        "reassign-partitions",
        "--generate --topics-to-move-json-file {files}/move.json --broker-list 1",
    ),
    run(
        "reassign-verify",
        "reassign-partitions",
        "--verify --reassignment-json-file {files}/assignment.json --preserve-throttles",
    ),
    run("reassign-execute-nothing", "reassign-partitions", "--execute"),
    run("transactions-list", "transactions", "--bootstrap-server {at} list"),
    run("transactions-describe-unknown", "transactions", "--bootstrap-server {at} describe --transactional-id nobody"),
    run(
        "transactions-producers",
        "transactions",
        "--bootstrap-server {at} describe-producers --topic keyed --partition 0",
    ),
    run(
        "transactions-producers-unknown",
        "transactions",
        "--command-config {files}/hurried.properties --bootstrap-server {at} describe-producers --topic nowhere --partition 0",
    ),
    run("transactions-hanging", "transactions", "--bootstrap-server {at} find-hanging --topic keyed --partition 0"),
    run("tokens-describe", "delegation-tokens", "--describe --command-config {files}/hurried.properties"),
    run(
        "tokens-create",
        "delegation-tokens",
        "--create --max-life-time-period -1 --command-config {files}/hurried.properties",
    ),
    run("tokens-nothing", "delegation-tokens", "--command-config {files}/hurried.properties"),
    run("acls-list", "acls", "--list"),
    run("acls-add", "acls", "--add --allow-principal User:alice --operation Read --topic plain"),
    run("acls-remove", "acls", "--remove --allow-principal User:alice --operation Read --topic plain --force"),
    loose("acls-bad-operation", "acls", "--add --allow-principal User:alice --operation Fly --topic plain"),
    loose("acls-nothing", "acls", ""),
]

LOAD = [
    run(
        "perf-produce",
        "producer-perf-test",
        "--topic load --num-records 5000 --record-size 100 --throughput -1 --command-property acks=all batch.size=65536",
    ),
    run(
        "perf-produce-payload",
        "producer-perf-test",
        "--topic load --num-records 100 --payload-file {files}/payload.txt --throughput 1000",
    ),
    run(
        "perf-produce-monotonic",
        "producer-perf-test",
        "--topic load --num-records 100 --payload-monotonic --throughput -1 --warmup-records 20",
    ),
    run("perf-produce-no-size", "producer-perf-test", "--topic load --num-records 100 --throughput -1"),
    run("perf-produce-no-records", "producer-perf-test", "--topic load --record-size 10 --throughput -1"),
    run("perf-consume", "consumer-perf-test", "--topic load --num-records 5200 --group perf --timeout 15000"),
    run(
        "perf-consume-detailed",
        "consumer-perf-test",
        "--topic load --num-records 1000 --group perf2 --timeout 15000 --show-detailed-stats --reporting-interval 60000 --hide-header",
    ),
    run("perf-consume-too-few", "consumer-perf-test", "--topic load --num-records 9000 --group perf3 --timeout 1500"),
    loose("perf-consume-no-topic", "consumer-perf-test", "--num-records 10"),
    run(
        "verify-produce",
        "verifiable-producer",
        "--topic load --max-messages 5 --throughput 1000 --acks 1 --value-prefix 7 --repeating-keys 2",
    ),
    run(
        "verify-produce-times",
        "verifiable-producer",
        "--topic load --max-messages 3 --message-create-time 1700000000000 --acks -1",
    ),
    run("verify-produce-bad-acks", "verifiable-producer", "--topic load --max-messages 3 --acks 9"),
    run(
        "verify-consume",
        "verifiable-consumer",
        "--topic plain --group-id checked --max-messages 4 --verbose --session-timeout 10000",
    ),
    run(
        "verify-consume-bad-policy",
        "verifiable-consumer",
        "--topic load --group-id checked --max-messages 4 --reset-policy never",
    ),
    run("verify-consume-range", "consumer-groups", "--describe --group checked --offsets"),
    run(
        "latency",
        "e2e-latency",
        "--bootstrap-server {at} --topic plain --num-records 20 --producer-acks all --record-size 50",
    ),
]

_APP = "--application-id app"
STREAMS = [
    run("streams-topics", "topics", "--create --topic app-store-changelog --partitions 2"),
    run("streams-repartition", "topics", "--create --topic app-by-key-repartition"),
    run("streams-reset-dry", "streams-application-reset", f"{_APP} --input-topics plain --dry-run"),
    run("streams-reset", "streams-application-reset", f"{_APP} --input-topics plain,keyed"),
    run("streams-reset-offset", "streams-application-reset", f"{_APP} --input-topics plain --to-offset 4"),
    run("streams-reset-shift", "streams-application-reset", f"{_APP} --input-topics plain --shift-by 1"),
    run("streams-reset-latest", "streams-application-reset", f"{_APP} --input-topics keyed --to-latest --dry-run"),
    run("streams-reset-unknown", "streams-application-reset", f"{_APP} --input-topics nowhere"),
    run("streams-reset-internal", "streams-application-reset", f"{_APP} --internal-topics plain"),
    run("streams-reset-nameless", "streams-application-reset", "--input-topics plain"),
    run("streams-topics-left", "topics", "--list --topic app.*"),
]

END = [
    run("topics-delete", "topics", "--delete --topic small"),
    run("topics-delete-unknown", "topics", "--delete --topic small"),
    run("topics-delete-unknown-if-exists", "topics", "--delete --topic small --if-exists"),
    run("topics-delete-pattern", "topics", "--delete --topic (comp|dot).*"),
    run("topics-create-deleted", "topics", "--create --topic small --partitions 2"),
    run("topics-describe-deleted", "topics", "--describe --topic small"),
    run("configs-deleted-topic", "configs", "--describe --topic small"),
    run("offsets-deleted-topic", "get-offsets", "--topic small"),
    run("groups-describe-deleted-topic", "consumer-groups", "--describe --group small"),
    run("topics-list-at-the-end", "topics", "--list --exclude-internal"),
    run("topics-list-all-at-the-end", "topics", "--list"),
]

SESSION = [
    *CLUSTER,
    *TOPICS,
    *CONFIGS,
    *METRICS,
    *PRODUCE,
    *CONSUME,
    *GROUPS,
    *OFFSETS,
    *REPLICAS,
    *LOAD,
    *STREAMS,
    *END,
]
