"""AlterConfigs (key 33), versions 0–2: set the configs of a resource to exactly what is given.

What isn't given is reset. Superseded by IncrementalAlterConfigs, and still sent by older clients. Loggers can't be set so.

Deviations:
- A resource that stands twice in a request is answered twice, with INVALID_REQUEST; Kafka gives no answer at all.
- A change of `iceberg.table` on a topic that exists is INVALID_CONFIG: a table belongs to its topic for ever.
- Broker configs without effect here are taken and kept; numbers of threads may be set to any that Kafka knows.
"""

from __future__ import annotations

from broker.kafka.call import Call, Reply
from broker.kafka.config_answers import alter_all, fail
from broker.kafka.config_changes import Op, Operation
from broker.kafka.config_resources import all_at_once
from broker.kafka.messages import Message
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey


def _operation(config: Message) -> Operation:
    return Operation(config["name"], Op.SET, config["value"])


@serve(ApiKey.ALTER_CONFIGS, versions=(0, 2), fail=fail)
def alter_configs(call: Call) -> Reply:
    """Each resource has its own answer, behind its transaction."""
    return alter_all(call, all_at_once, _operation)
