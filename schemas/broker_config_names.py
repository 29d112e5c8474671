"""Kafka 4.3's broker configs: name, type, default, how each can be changed while a broker runs, least value. Data alone.

What of it means something here says `broker.kafka.broker_configs`; the rest is there because tools list it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from schemas.config_types import ConfigType


class Update(Enum):
    """How a broker config can be changed while the broker runs."""

    READ_ONLY = "-"
    PER_BROKER = "broker"
    """For one broker, not for all at once."""
    CLUSTER_WIDE = "cluster"
    """For one broker, or for all."""


class BrokerConfig(NamedTuple):
    """One broker config. `default` is None where it has none; `least` bounds numbers that can be changed."""

    name: str
    type: ConfigType
    default: str | None
    update: Update
    least: int | None


_TABLE = """
add.partitions.to.txn.retry.backoff.max.ms INT 100 - -
add.partitions.to.txn.retry.backoff.ms INT 20 - -
advertised.listeners LIST <null> - -
alter.config.policy.class.name CLASS <null> - -
alter.log.dirs.replication.quota.window.num INT 11 - -
alter.log.dirs.replication.quota.window.size.seconds INT 1 - -
authorizer.class.name STRING <empty> - -
auto.create.topics.enable BOOLEAN true - -
auto.leader.rebalance.enable BOOLEAN true - -
background.threads INT 10 cluster 1
broker.heartbeat.interval.ms INT 2000 - -
broker.id INT -1 - -
broker.rack STRING <null> - -
broker.session.timeout.ms INT 9000 - -
client.quota.callback.class CLASS <null> - -
compression.gzip.level INT -1 cluster 1
compression.lz4.level INT 9 cluster 1
compression.type STRING producer cluster -
compression.zstd.level INT 3 cluster -131072
config.providers LIST <empty> cluster -
connection.failed.authentication.delay.ms INT 100 - -
connections.max.idle.ms LONG 600000 - -
connections.max.reauth.ms LONG 0 - -
controlled.shutdown.enable BOOLEAN true - -
controller.listener.names LIST <null> - -
controller.quorum.append.linger.ms INT 25 - -
controller.quorum.auto.join.enable BOOLEAN false - -
controller.quorum.bootstrap.servers LIST <empty> - -
controller.quorum.election.backoff.max.ms INT 1000 - -
controller.quorum.election.timeout.ms INT 1000 - -
controller.quorum.fetch.max.bytes INT 1048576 - -
controller.quorum.fetch.snapshot.max.bytes INT 1048576 - -
controller.quorum.fetch.timeout.ms INT 2000 - -
controller.quorum.request.timeout.ms INT 2000 - -
controller.quorum.retry.backoff.ms INT 20 - -
controller.quorum.voters LIST <empty> - -
controller.quota.window.num INT 11 - -
controller.quota.window.size.seconds INT 1 - -
controller.socket.timeout.ms INT 30000 - -
cordoned.log.dirs LIST <empty> broker -
create.topic.policy.class.name CLASS <null> - -
default.replication.factor INT 1 - -
delegation.token.expiry.check.interval.ms LONG 3600000 - -
delegation.token.expiry.time.ms LONG 86400000 - -
delegation.token.max.lifetime.ms LONG 604800000 - -
delegation.token.secret.key PASSWORD <null> - -
delete.records.purgatory.purge.interval.requests INT 1 - -
delete.topic.enable BOOLEAN true - -
early.start.listeners LIST <null> - -
fetch.max.bytes INT 57671680 - -
fetch.purgatory.purge.interval.requests INT 1000 - -
follower.fetch.last.tiered.offset.enable BOOLEAN false cluster -
group.consumer.assignment.interval.ms INT 1000 cluster 0
group.consumer.assignors LIST uniform,range - -
group.consumer.heartbeat.interval.ms INT 5000 - -
group.consumer.max.assignment.interval.ms INT 15000 - -
group.consumer.max.heartbeat.interval.ms INT 15000 - -
group.consumer.max.session.timeout.ms INT 60000 - -
group.consumer.max.size INT 2147483647 - -
group.consumer.migration.policy STRING bidirectional - -
group.consumer.min.assignment.interval.ms INT 0 - -
group.consumer.min.heartbeat.interval.ms INT 5000 - -
group.consumer.min.session.timeout.ms INT 45000 - -
group.consumer.session.timeout.ms INT 45000 - -
group.coordinator.append.linger.ms INT -1 - -
group.coordinator.background.threads INT 2 - -
group.coordinator.cached.buffer.max.bytes INT 1048588 cluster 524288
group.coordinator.rebalance.protocols LIST classic,consumer,streams - -
group.coordinator.threads INT 4 - -
group.initial.rebalance.delay.ms INT 3000 - -
group.max.session.timeout.ms INT 1800000 - -
group.max.size INT 2147483647 - -
group.min.session.timeout.ms INT 6000 - -
group.share.assignment.interval.ms INT 1000 cluster 0
group.share.assignors LIST simple - -
group.share.delivery.count.limit INT 5 - -
group.share.heartbeat.interval.ms INT 5000 - -
group.share.max.assignment.interval.ms INT 15000 - -
group.share.max.delivery.count.limit INT 10 - -
group.share.max.heartbeat.interval.ms INT 15000 - -
group.share.max.partition.max.record.locks INT 4000 - -
group.share.max.record.lock.duration.ms INT 60000 - -
group.share.max.session.timeout.ms INT 60000 - -
group.share.max.share.sessions INT 2000 - -
group.share.max.size INT 200 - -
group.share.min.assignment.interval.ms INT 0 - -
group.share.min.delivery.count.limit INT 2 - -
group.share.min.heartbeat.interval.ms INT 5000 - -
group.share.min.partition.max.record.locks INT 100 - -
group.share.min.record.lock.duration.ms INT 15000 - -
group.share.min.session.timeout.ms INT 45000 - -
group.share.partition.max.record.locks INT 2000 - -
group.share.record.lock.duration.ms INT 30000 - -
group.share.session.timeout.ms INT 45000 - -
group.streams.assignment.interval.ms INT 1000 cluster 0
group.streams.heartbeat.interval.ms INT 5000 - -
group.streams.initial.rebalance.delay.ms INT 3000 - -
group.streams.max.assignment.interval.ms INT 15000 - -
group.streams.max.heartbeat.interval.ms INT 15000 - -
group.streams.max.session.timeout.ms INT 60000 - -
group.streams.max.size INT 2147483647 - -
group.streams.max.standby.replicas INT 2 - -
group.streams.min.assignment.interval.ms INT 0 - -
group.streams.min.heartbeat.interval.ms INT 5000 - -
group.streams.min.session.timeout.ms INT 45000 - -
group.streams.num.standby.replicas INT 0 - -
group.streams.session.timeout.ms INT 45000 - -
initial.broker.registration.timeout.ms INT 60000 - -
inter.broker.listener.name STRING <null> - -
kafka.metrics.polling.interval.secs INT 10 - -
kafka.metrics.reporters LIST <empty> - -
leader.imbalance.check.interval.seconds LONG 300 - -
listener.security.protocol.map STRING SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT broker -
listeners LIST PLAINTEXT://:9092 broker -
log.cleaner.backoff.ms LONG 15000 cluster 0
log.cleaner.dedupe.buffer.size LONG 134217728 cluster -
log.cleaner.delete.retention.ms LONG 86400000 cluster 0
log.cleaner.enable BOOLEAN true - -
log.cleaner.io.buffer.load.factor DOUBLE 0.9 cluster -
log.cleaner.io.buffer.size INT 524288 cluster 0
log.cleaner.io.max.bytes.per.second DOUBLE 1.7976931348623157E308 cluster -
log.cleaner.max.compaction.lag.ms LONG 9223372036854775807 cluster 1
log.cleaner.min.cleanable.ratio DOUBLE 0.5 cluster 0
log.cleaner.min.compaction.lag.ms LONG 0 cluster 0
log.cleaner.threads INT 1 cluster 0
log.cleanup.policy LIST delete cluster -
log.dir LIST /tmp/kafka-logs - -
log.dir.failure.timeout.ms LONG 30000 - -
log.dirs LIST <null> - -
log.flush.interval.messages LONG 9223372036854775807 cluster 1
log.flush.interval.ms LONG <null> cluster -
log.flush.offset.checkpoint.interval.ms INT 60000 - -
log.flush.scheduler.interval.ms LONG 9223372036854775807 - -
log.flush.start.offset.checkpoint.interval.ms INT 60000 - -
log.index.interval.bytes INT 4096 cluster 0
log.index.size.max.bytes INT 10485760 cluster 4
log.local.retention.bytes LONG -2 cluster -2
log.local.retention.ms LONG -2 cluster -2
log.message.timestamp.after.max.ms LONG 3600000 cluster 0
log.message.timestamp.before.max.ms LONG 9223372036854775807 cluster 0
log.message.timestamp.type STRING CreateTime cluster -
log.preallocate BOOLEAN false cluster -
log.retention.bytes LONG -1 cluster -
log.retention.check.interval.ms LONG 300000 - -
log.retention.hours INT 168 - -
log.retention.minutes INT <null> - -
log.retention.ms LONG <null> cluster -
log.roll.hours INT 168 - -
log.roll.jitter.hours INT 0 - -
log.roll.jitter.ms LONG <null> cluster -
log.roll.ms LONG <null> cluster -
log.segment.bytes INT 1073741824 cluster 1048576
log.segment.delete.delay.ms LONG 60000 cluster 0
max.connection.creation.rate INT 2147483647 cluster 0
max.connections INT 2147483647 cluster 0
max.connections.per.ip INT 2147483647 cluster 0
max.connections.per.ip.overrides STRING <empty> cluster -
max.incremental.fetch.session.cache.slots INT 1000 - -
max.request.partition.size.limit INT 2000 - -
message.max.bytes INT 1048588 cluster 0
metadata.log.dir STRING <null> - -
metadata.log.max.record.bytes.between.snapshots LONG 20971520 - -
metadata.log.max.snapshot.interval.ms LONG 3600000 - -
metadata.log.segment.bytes INT 1073741824 - -
metadata.log.segment.ms LONG 604800000 - -
metadata.max.idle.interval.ms INT 500 - -
metadata.max.retention.bytes LONG 104857600 - -
metadata.max.retention.ms LONG 604800000 - -
metric.reporters LIST org.apache.kafka.common.metrics.JmxReporter cluster -
metrics.num.samples INT 2 - -
metrics.recording.level STRING INFO - -
metrics.sample.window.ms LONG 30000 - -
min.insync.replicas INT 1 cluster 1
node.id INT <null> - -
num.io.threads INT 8 cluster 1
num.network.threads INT 3 cluster 1
num.partitions INT 1 - -
num.recovery.threads.per.data.dir INT 2 cluster 1
num.replica.alter.log.dirs.threads INT <null> - -
num.replica.fetchers INT 1 cluster 1
offset.metadata.max.bytes INT 4096 - -
offsets.commit.timeout.ms INT 5000 - -
offsets.load.buffer.size INT 5242880 - -
offsets.retention.check.interval.ms LONG 600000 - -
offsets.retention.minutes INT 10080 - -
offsets.topic.compression.codec INT 0 - -
offsets.topic.num.partitions INT 50 - -
offsets.topic.replication.factor SHORT 3 - -
offsets.topic.segment.bytes INT 104857600 - -
principal.builder.class CLASS org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder broker -
process.roles LIST <null> - -
producer.id.expiration.ms INT 86400000 cluster 1
producer.purgatory.purge.interval.requests INT 1000 - -
queued.max.request.bytes LONG -1 - -
queued.max.requests INT 500 - -
quota.window.num INT 11 - -
quota.window.size.seconds INT 1 - -
remote.fetch.max.wait.ms INT 500 cluster 1
remote.list.offsets.request.timeout.ms LONG 30000 cluster 1
remote.log.index.file.cache.total.size.bytes LONG 1073741824 cluster 1
remote.log.manager.copier.thread.pool.size INT 10 cluster 1
remote.log.manager.copy.max.bytes.per.second LONG 9223372036854775807 cluster 1
remote.log.manager.copy.quota.window.num INT 11 - -
remote.log.manager.copy.quota.window.size.seconds INT 1 - -
remote.log.manager.expiration.thread.pool.size INT 10 cluster 1
remote.log.manager.fetch.max.bytes.per.second LONG 9223372036854775807 cluster 1
remote.log.manager.fetch.quota.window.num INT 11 - -
remote.log.manager.fetch.quota.window.size.seconds INT 1 - -
remote.log.manager.follower.thread.pool.size INT 2 cluster 1
remote.log.manager.task.interval.ms LONG 30000 - -
remote.log.manager.thread.pool.size INT 2 - -
remote.log.metadata.custom.metadata.max.bytes INT 128 - -
remote.log.metadata.manager.class.name STRING org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager - -
remote.log.metadata.manager.class.path STRING <null> - -
remote.log.metadata.manager.impl.prefix STRING rlmm.config. - -
remote.log.metadata.manager.listener.name STRING <null> - -
remote.log.reader.max.pending.tasks INT 100 - -
remote.log.reader.threads INT 10 cluster 1
remote.log.storage.manager.class.name STRING <null> - -
remote.log.storage.manager.class.path STRING <null> - -
remote.log.storage.manager.impl.prefix STRING rsm.config. - -
remote.log.storage.system.enable BOOLEAN false - -
replica.fetch.backoff.ms INT 1000 - -
replica.fetch.max.bytes INT 1048576 - -
replica.fetch.min.bytes INT 1 - -
replica.fetch.response.max.bytes INT 10485760 - -
replica.fetch.wait.max.ms INT 500 - -
replica.high.watermark.checkpoint.interval.ms LONG 5000 - -
replica.lag.time.max.ms LONG 30000 - -
replica.selector.class STRING <null> - -
replica.socket.receive.buffer.bytes INT 65536 - -
replica.socket.timeout.ms INT 30000 - -
replication.quota.window.num INT 11 - -
replication.quota.window.size.seconds INT 1 - -
request.timeout.ms INT 30000 - -
sasl.client.callback.handler.class CLASS <null> - -
sasl.enabled.mechanisms LIST GSSAPI broker -
sasl.jaas.config PASSWORD <null> broker -
sasl.kerberos.kinit.cmd STRING /usr/bin/kinit broker -
sasl.kerberos.min.time.before.relogin LONG 60000 broker -
sasl.kerberos.principal.to.local.rules LIST DEFAULT broker -
sasl.kerberos.service.name STRING <null> broker -
sasl.kerberos.ticket.renew.jitter DOUBLE 0.05 broker -
sasl.kerberos.ticket.renew.window.factor DOUBLE 0.8 broker -
sasl.login.callback.handler.class CLASS <null> - -
sasl.login.class CLASS <null> - -
sasl.login.connect.timeout.ms INT <null> - -
sasl.login.read.timeout.ms INT <null> - -
sasl.login.refresh.buffer.seconds SHORT 300 broker -
sasl.login.refresh.min.period.seconds SHORT 60 broker -
sasl.login.refresh.window.factor DOUBLE 0.8 broker -
sasl.login.refresh.window.jitter DOUBLE 0.05 broker -
sasl.login.retry.backoff.max.ms LONG 10000 - -
sasl.login.retry.backoff.ms LONG 100 - -
sasl.mechanism.controller.protocol STRING GSSAPI - -
sasl.mechanism.inter.broker.protocol STRING GSSAPI broker -
sasl.oauthbearer.assertion.algorithm STRING RS256 - -
sasl.oauthbearer.assertion.claim.aud STRING <null> - -
sasl.oauthbearer.assertion.claim.exp.seconds INT 300 - -
sasl.oauthbearer.assertion.claim.iss STRING <null> - -
sasl.oauthbearer.assertion.claim.jti.include BOOLEAN false - -
sasl.oauthbearer.assertion.claim.nbf.seconds INT 60 - -
sasl.oauthbearer.assertion.claim.sub STRING <null> - -
sasl.oauthbearer.assertion.file STRING <null> - -
sasl.oauthbearer.assertion.private.key.file STRING <null> - -
sasl.oauthbearer.assertion.private.key.passphrase PASSWORD <null> - -
sasl.oauthbearer.assertion.template.file STRING <null> - -
sasl.oauthbearer.client.credentials.client.id STRING <null> - -
sasl.oauthbearer.client.credentials.client.secret PASSWORD <null> - -
sasl.oauthbearer.clock.skew.seconds INT 30 - -
sasl.oauthbearer.expected.audience LIST <empty> - -
sasl.oauthbearer.expected.issuer STRING <null> - -
sasl.oauthbearer.jwks.endpoint.refresh.ms LONG 3600000 - -
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms LONG 10000 - -
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms LONG 100 - -
sasl.oauthbearer.jwks.endpoint.url STRING <null> - -
sasl.oauthbearer.jwt.retriever.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever - -
sasl.oauthbearer.jwt.validator.class CLASS org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator - -
sasl.oauthbearer.scope STRING <null> - -
sasl.oauthbearer.scope.claim.name STRING scope - -
sasl.oauthbearer.sub.claim.name STRING sub - -
sasl.oauthbearer.token.endpoint.url STRING <null> - -
sasl.server.callback.handler.class CLASS <null> - -
sasl.server.max.receive.size INT 524288 - -
security.inter.broker.protocol STRING PLAINTEXT - -
security.providers STRING <null> - -
share.coordinator.append.linger.ms INT -1 - -
share.coordinator.cached.buffer.max.bytes INT 1048588 cluster 524288
share.coordinator.load.buffer.size INT 5242880 - -
share.coordinator.snapshot.update.records.per.snapshot INT 500 - -
share.coordinator.state.topic.compression.codec INT 0 - -
share.coordinator.state.topic.min.isr SHORT 2 - -
share.coordinator.state.topic.num.partitions INT 50 - -
share.coordinator.state.topic.replication.factor SHORT 3 - -
share.coordinator.state.topic.segment.bytes INT 104857600 - -
share.coordinator.threads INT 1 - -
share.coordinator.write.timeout.ms INT 5000 - -
share.fetch.purgatory.purge.interval.requests INT 1000 - -
socket.connection.setup.timeout.max.ms LONG 30000 - -
socket.connection.setup.timeout.ms LONG 10000 - -
socket.listen.backlog.size INT 50 - -
socket.receive.buffer.bytes INT 102400 - -
socket.request.max.bytes INT 104857600 - -
socket.send.buffer.bytes INT 102400 - -
ssl.allow.dn.changes BOOLEAN false - -
ssl.allow.san.changes BOOLEAN false - -
ssl.cipher.suites LIST <empty> broker -
ssl.client.auth STRING none broker -
ssl.enabled.protocols LIST TLSv1.2,TLSv1.3 broker -
ssl.endpoint.identification.algorithm STRING https broker -
ssl.engine.factory.class CLASS <null> broker -
ssl.key.password PASSWORD <null> broker -
ssl.keymanager.algorithm STRING SunX509 broker -
ssl.keystore.certificate.chain PASSWORD <null> broker -
ssl.keystore.key PASSWORD <null> broker -
ssl.keystore.location STRING <null> broker -
ssl.keystore.password PASSWORD <null> broker -
ssl.keystore.type STRING JKS broker -
ssl.principal.mapping.rules STRING DEFAULT - -
ssl.protocol STRING TLSv1.3 broker -
ssl.provider STRING <null> broker -
ssl.secure.random.implementation STRING <null> broker -
ssl.trustmanager.algorithm STRING PKIX broker -
ssl.truststore.certificates PASSWORD <null> broker -
ssl.truststore.location STRING <null> broker -
ssl.truststore.password PASSWORD <null> broker -
ssl.truststore.type STRING JKS broker -
telemetry.max.bytes INT 1048576 - -
transaction.abort.timed.out.transaction.cleanup.interval.ms INT 10000 - -
transaction.max.timeout.ms INT 900000 - -
transaction.partition.verification.enable BOOLEAN true cluster -
transaction.remove.expired.transaction.cleanup.interval.ms INT 3600000 - -
transaction.state.log.load.buffer.size INT 5242880 - -
transaction.state.log.min.isr INT 2 - -
transaction.state.log.num.partitions INT 50 - -
transaction.state.log.replication.factor SHORT 3 - -
transaction.state.log.segment.bytes INT 104857600 - -
transaction.two.phase.commit.enable BOOLEAN false - -
transactional.id.expiration.ms INT 604800000 - -
unclean.leader.election.enable BOOLEAN false cluster -
"""


def _row(line: str) -> BrokerConfig:
    name, kind, default, update, least = line.split()
    return BrokerConfig(
        name,
        ConfigType[kind],
        {"<null>": None, "<empty>": ""}.get(default, default),
        Update(update),
        None if least == "-" else int(least),
    )


BROKER_CONFIGS: Mapping[str, BrokerConfig] = {row.name: row for row in map(_row, _TABLE.split("\n")[1:-1])}
"""Every one by name, in the order of names."""
