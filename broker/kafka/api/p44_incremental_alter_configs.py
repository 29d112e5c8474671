"""IncrementalAlterConfigs (key 44), versions 0–1: set, delete, append to and subtract from single configs.

Each resource changes wholly or not at all, in one transaction, so that changes by two clients at once lose nothing.
Changes of topics, of their defaults and of the bounds of connections take effect on every agent within
`topic_poll_interval_ms`.

Deviations:
- An operation that there isn't is INVALID_REQUEST; Kafka says UNKNOWN_SERVER_ERROR except for brokers.
- A change of `iceberg.table` on a topic that exists is INVALID_CONFIG: a table belongs to its topic for ever.
- Broker configs without effect here are taken and kept; numbers of threads may be set to any that Kafka knows.
- The level of a logger holds until the process ends, as in Kafka; there is one logger, `root`.
"""

from __future__ import annotations

from broker.kafka.call import Call, Reply
from broker.kafka.config_answers import alter_all, fail
from broker.kafka.config_changes import Operation
from broker.kafka.config_resources import one_after_the_other
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey


def _operation(config: Message) -> Operation:
    return Operation(config["name"], config["config_operation"], config["value"])


@serve(ApiKey.INCREMENTAL_ALTER_CONFIGS, versions=(0, 1), fail=fail)
def incremental_alter_configs(call: Call) -> Reply:
    """Each resource has its own answer, behind its transaction."""
    return alter_all(call, one_after_the_other, _operation)
