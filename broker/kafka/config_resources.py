"""Resources that have configs, for the APIs that describe and change them: one place for what each kind is called, who may
be asked about it, what its configs are, and how a change of them is checked.

Brokers and loggers are answered by the agent itself, and for itself alone. Topics, client metrics and groups are the
cluster's. What is told comes from the database as of now; a change is worked out inside a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from broker.kafka.broker_configs import broker_layers, describe_all_brokers, describe_broker
from broker.kafka.config_changes import (
    Op,
    Operation,
    RefusedChange,
    Validate,
    Words,
    check_known,
    check_operations,
    incremental,
    replaced,
)
from broker.log_levels import LEVELS, ROOT, root_level, set_root_level
from broker.services import Services
from catalog.configs import Change
from catalog.topics import TableNameFixed, TopicGone
from schemas.broker_config import InvalidBrokerChange, is_list, validate_broker
from schemas.broker_config_names import BROKER_CONFIGS
from schemas.client_metrics_config import InvalidMetricsRequest, describe_metrics, validate_metrics
from schemas.config_kinds import ConfigKind
from schemas.config_types import ConfigEntry, ConfigSource, ConfigType, InvalidConfig
from schemas.group_config import describe_group, validate_group
from schemas.kafka.errors import ErrorCode
from schemas.names import InvalidName, check_topic_name
from schemas.topic_config import TOPIC_CONFIGS, describe, validate

Work = Callable[[Sequence[Operation], Words, Validate], Change]
"""How operations become a change: one after the other, or all at once."""
_REQUEST = ErrorCode.INVALID_REQUEST


def _not_a_list(op: str, name: str) -> str:
    return f"Can't {op} to key {name} because its type is not LIST."


def _topic_default(name: str) -> str | None:
    return TOPIC_CONFIGS[name].default


def _broker_default(name: str) -> str | None:
    return BROKER_CONFIGS[name].default


TOPIC_WORDS = Words(
    lambda name: name in TOPIC_CONFIGS and TOPIC_CONFIGS[name].type is ConfigType.LIST, _topic_default, _not_a_list
)
BROKER_WORDS = Words(
    is_list, _broker_default, lambda op, name: f"Config value {op.lower()} is not allowed for config key: {name}"
)
NO_LISTS = Words(lambda _: False, lambda _: None, _not_a_list)


def one_after_the_other(operations: Sequence[Operation], words: Words, validate: Validate) -> Change:
    """As IncrementalAlterConfigs works."""
    check_known(operations)
    return incremental(operations, words, validate)


def all_at_once(operations: Sequence[Operation], _: Words, validate: Validate) -> Change:
    """As AlterConfigs works: what isn't given is reset."""
    return replaced(operations, validate)


# describing


async def refresh(services: Services, resources: Sequence[tuple[int, str]]) -> None:
    """Read from the database what these resources (kind, name) need."""
    topics = [name for kind, name in resources if kind == ConfigKind.TOPIC and topic_objection(name) is None]
    if topics:
        await services.topics.fresh(list(dict.fromkeys(topics)))
    await services.configs.fresh()


def described(services: Services, kind: int, name: str) -> list[ConfigEntry]:
    """Every config of a resource. Call `refresh` before. Raises RefusedChange."""
    match kind:
        case ConfigKind.TOPIC:
            return _topic_entries(services, name)
        case ConfigKind.BROKER:
            return _broker_entries(services, name)
        case ConfigKind.BROKER_LOGGER:
            _check_logger_node(services, name)
            return [ConfigEntry(ROOT, root_level(), ConfigSource.BROKER_LOGGER, ConfigType.UNKNOWN, (), "")]
        case ConfigKind.CLIENT_METRICS:
            if not name:
                raise RefusedChange(_REQUEST, "Client metrics subscription name must not be empty")
            return describe_metrics(services.configs.of(ConfigKind.CLIENT_METRICS, name))
        case ConfigKind.GROUP:
            if not name:
                raise RefusedChange(_REQUEST, "Group name must not be empty")
            return describe_group(services.configs.of(ConfigKind.GROUP, name))
        case _:
            raise RefusedChange(_REQUEST)


def topic_objection(name: str) -> str | None:
    """Why no topic can have this name."""
    try:
        check_topic_name(name)
    except InvalidName as invalid:
        return f"Topic name is invalid: {invalid}"
    return None


def _topic_entries(services: Services, name: str) -> list[ConfigEntry]:
    objection = topic_objection(name)
    if objection is not None:
        raise RefusedChange(ErrorCode.INVALID_TOPIC_EXCEPTION, objection)
    view = services.topics.by_name(name)
    if view is None:
        raise RefusedChange(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
    return describe(view.config, layers_of(services))


def layers_of(services: Services) -> Sequence[tuple[ConfigSource, Mapping[str, str]]]:
    """What is set for this broker, the nearest layer first."""
    return broker_layers(services.settings, services.configs, services.cluster.self_view)


def _broker_entries(services: Services, name: str) -> list[ConfigEntry]:
    if not name:
        return describe_all_brokers(services.configs)
    own = services.cluster.self_view
    if _node_number(name, "Broker id") != own.broker_id:
        message = f"Unexpected broker id, expected {own.broker_id} or empty string, but received {name}"
        raise RefusedChange(_REQUEST, message)
    return describe_broker(services.settings, layers_of(services), own, services.cluster.cluster_id)


def _check_logger_node(services: Services, name: str) -> None:
    if not name:
        raise RefusedChange(_REQUEST, "Broker id must not be empty")
    own = services.cluster.self_view.broker_id
    if _node_number(name, "Broker id") != own:
        raise RefusedChange(_REQUEST, f"Unexpected broker id, expected {own} but received {name}")


def _node_number(name: str, what: str) -> int:
    digits = name.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise RefusedChange(_REQUEST, f"{what} must be an integer, but it is: {name}")
    return int(name)


# changing


async def alter(
    services: Services, kind: int, name: str, operations: Sequence[Operation], work: Work, *, validate_only: bool
) -> None:
    """Change the configs of a resource, or only check that they could be changed. Raises RefusedChange, DatabaseError."""
    check_operations(operations)
    match kind:
        case ConfigKind.TOPIC:
            await _alter_topic(
                services, name, work(operations, TOPIC_WORDS, partial(_check_topic, name)), validate_only
            )
        case ConfigKind.BROKER:
            await _alter_broker(services, name, operations, work, validate_only)
        case ConfigKind.BROKER_LOGGER if work is one_after_the_other:
            _alter_loggers(services, name, operations, validate_only)
        case ConfigKind.CLIENT_METRICS:
            change = work(operations, NO_LISTS, partial(_check_metrics, name))
            await _store(services, ConfigKind.CLIENT_METRICS, name, change, validate_only)
        case ConfigKind.GROUP:
            change = work(operations, NO_LISTS, partial(_check_group, name))
            await _store(services, ConfigKind.GROUP, name, change, validate_only)
        case _:
            raise RefusedChange(_REQUEST, f"Unknown resource type {kind}")


async def _store(services: Services, kind: ConfigKind, name: str, change: Change, validate_only: bool) -> None:
    if validate_only:
        change(services.configs.of(kind, name))
    else:
        await services.configs.alter(kind, name, change)


async def _alter_topic(services: Services, name: str, change: Change, validate_only: bool) -> None:
    view = services.topics.by_name(name)
    missing = RefusedChange(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
    if view is None or validate_only:
        change({} if view is None else view.config)
        if view is None:
            raise missing
        return
    try:
        await services.topics.alter_config(view, change)
    except TopicGone:
        raise missing from None
    except TableNameFixed as fixed:
        raise RefusedChange(ErrorCode.INVALID_CONFIG, str(fixed)) from fixed


def _check_topic(name: str, config: Mapping[str, str]) -> None:
    if not name:
        raise RefusedChange(_REQUEST, "Default topic resources are not allowed.")
    objection = topic_objection(name)
    if objection is not None:
        raise RefusedChange(ErrorCode.INVALID_TOPIC_EXCEPTION, objection)
    try:
        validate(config)
    except InvalidConfig as invalid:
        raise RefusedChange(ErrorCode.INVALID_CONFIG, invalid.message) from invalid


async def _alter_broker(
    services: Services, name: str, operations: Sequence[Operation], work: Work, validate_only: bool
) -> None:
    own = services.cluster.self_view.broker_id
    if name and _node_number(name, "Node id") != own:
        raise RefusedChange(_REQUEST, f"Unexpected broker id, expected {own}, but received {name}")

    def check(config: Mapping[str, str]) -> None:
        try:
            validate_broker(config, for_all=not name)
        except InvalidBrokerChange as invalid:
            raise RefusedChange(_REQUEST, str(invalid)) from invalid

    resource = str(own) if name else ""
    await _store(services, ConfigKind.BROKER, resource, work(operations, BROKER_WORDS, check), validate_only)


def _check_metrics(name: str, config: Mapping[str, str]) -> None:
    if not name:
        raise RefusedChange(_REQUEST, "Subscription name can't be empty")
    try:
        validate_metrics(config)
    except InvalidMetricsRequest as invalid:
        raise RefusedChange(_REQUEST, str(invalid)) from invalid
    except InvalidConfig as invalid:
        raise RefusedChange(ErrorCode.INVALID_CONFIG, invalid.message) from invalid


def _check_group(name: str, config: Mapping[str, str]) -> None:
    if not name:
        raise RefusedChange(_REQUEST, "Default group resources are not allowed.")
    try:
        validate_group(config)
    except InvalidConfig as invalid:
        raise RefusedChange(ErrorCode.INVALID_CONFIG, invalid.message) from invalid


def _alter_loggers(services: Services, name: str, operations: Sequence[Operation], validate_only: bool) -> None:
    own = services.cluster.self_view.broker_id
    if _node_number(name, "Node id") != own:
        raise RefusedChange(_REQUEST, f"Unexpected node id. Expected {own}, but received {name}")
    check_known(operations)
    for operation in operations:
        _check_level(operation)
    if not validate_only:
        for operation in operations:
            set_root_level(operation.value or "")


def _check_level(operation: Operation) -> None:
    name, value = operation.name, operation.value
    if operation.op in (Op.APPEND, Op.SUBTRACT):
        message = f"{Op(operation.op).name} operation is not allowed for the BROKER_LOGGER resource"
        raise RefusedChange(_REQUEST, message)
    if name != ROOT:
        raise RefusedChange(ErrorCode.INVALID_CONFIG, f"Logger {name} does not exist!")
    if operation.op == Op.DELETE:
        raise RefusedChange(_REQUEST, "Removing the log level of the root logger is not allowed")
    if value not in LEVELS:
        message = f"Cannot set the log level of {name} to {value} as it is not a supported log level."
        raise RefusedChange(ErrorCode.INVALID_CONFIG, f"{message} Valid log levels are {', '.join(LEVELS)}")
