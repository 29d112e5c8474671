"""What a request wants changed in the configs of one resource: checked, and worked out against what is set. Pure.

The order of the checks, the codes and the words are Kafka's. A change is worked out again inside the database's
transaction, where what is set may have become something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from catalog.configs import Change
from schemas.kafka.errors import ErrorCode


class RefusedChange(Exception):
    """A change that can't be made; what its answer says (no message means Kafka's for the code)."""

    def __init__(self, error: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or error.name)
        self.error = error
        self.message = message


class Op(IntEnum):
    """What IncrementalAlterConfigs does with a config."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Operation(NamedTuple):
    """One change of one config. `op` as on the wire."""

    name: str
    op: int
    value: str | None


class Words(NamedTuple):
    """What lists are: which configs, with which default, and what is said of the others."""

    is_list: Callable[[str], bool]
    default: Callable[[str], str | None]
    refusal: Callable[[str, str], str]
    """(APPEND or SUBTRACT, name) -> message."""


Validate = Callable[[Mapping[str, str]], None]
"""Raises RefusedChange for configs that can't be set together."""


def check_operations(operations: Sequence[Operation]) -> None:
    """Refuse what is wrong whatever is set: a config twice, null values."""
    if len({operation.name for operation in operations}) < len(operations):
        raise RefusedChange(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [operation.name for operation in operations if operation.value is None and operation.op != Op.DELETE]
    if nulls:
        raise RefusedChange(ErrorCode.INVALID_REQUEST, f"Null value not supported for : {', '.join(nulls)}")


def check_known(operations: Iterable[Operation]) -> None:
    """Refuse operations that there aren't."""
    for operation in operations:
        if operation.op not in tuple(Op):
            raise RefusedChange(ErrorCode.INVALID_REQUEST, f"Unknown operations type {operation.op}")


def incremental(operations: Sequence[Operation], words: Words, validate: Validate) -> Change:
    """The change that these operations make. It raises RefusedChange."""

    def change(config: Mapping[str, str]) -> Mapping[str, str]:
        changed = dict(config)
        for operation in operations:
            _apply(changed, operation, words)
        validate(changed)
        return changed

    return change


def replaced(operations: Sequence[Operation], validate: Validate) -> Change:
    """The change that leaves what is given and nothing else. It raises RefusedChange."""

    def change(_: Mapping[str, str]) -> Mapping[str, str]:
        config = {operation.name: operation.value or "" for operation in operations}
        validate(config)
        return config

    return change


def _apply(config: dict[str, str], operation: Operation, words: Words) -> None:
    name, op, value = operation.name, operation.op, operation.value or ""
    if op == Op.SET:
        config[name] = value
    elif op == Op.DELETE:
        config.pop(name, None)
    else:
        if not words.is_list(name):
            raise RefusedChange(ErrorCode.INVALID_CONFIG, words.refusal(Op(op).name, name))
        config[name] = _combined(config.get(name, words.default(name) or ""), op, value)


def _combined(before: str, op: int, value: str) -> str:
    """A list with words added at its end, where they aren't in it, or taken out. Words count with their spaces."""
    found = [word for word in before.split(",") if word]
    given = value.split(",")
    if op == Op.APPEND:
        return ",".join([*found, *dict.fromkeys(word for word in given if word not in found)])
    for word in given:
        if word in found:
            found.remove(word)
    return ",".join(found)
