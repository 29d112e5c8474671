"""Requests from plain values and plain values from responses, through kio's schemas, which neither broker shares.

A request is written once for all versions: values that a version lacks are left out, fields that aren't given are zero.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from tests.kio_entities import milliseconds, shapes

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_ZERO: dict[str, Any] = {"string": "", "bool": False, "uuid": None, "records": None, "bytes": b""}


def fill(cls: Any, values: Mapping[str, Any]) -> Any:
    """A kio entity from plain values: mappings for structures, sequences for arrays, ms for durations."""
    fields: dict[str, Any] = {}
    for shape in shapes(cls):
        if shape.name not in values:
            if not shape.tagged:
                fields[shape.name] = _zero(shape.array, shape.nullable, shape.kafka_type)
            continue
        value = values[shape.name]
        if value is not None and shape.array:
            value = tuple(_one(shape.item, shape.kafka_type, item) for item in value)
        elif value is not None:
            value = _one(shape.item, shape.kafka_type, value)
        fields[shape.name] = value
    return cls(**fields)


def _zero(array: bool, nullable: bool, kafka_type: str | None) -> Any:
    if nullable:
        return None
    if array:
        return ()
    if kafka_type == "timedelta_i32":
        return milliseconds(0)
    return _ZERO.get(kafka_type or "", 0)


def _one(item: Any, kafka_type: str | None, value: Any) -> Any:
    if kafka_type is None:
        return fill(item, value)
    return milliseconds(value) if kafka_type.startswith("timedelta") else value


def plain(value: Any) -> Any:
    """A kio entity as dicts, lists and scalars; moments in Unix ms (-1 for none), durations in ms."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _field(field, getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.timedelta):
        return round(value / datetime.timedelta(milliseconds=1))
    if isinstance(value, datetime.datetime):
        return round((value - EPOCH) / datetime.timedelta(milliseconds=1))
    return int(value) if isinstance(value, IntEnum) else value


def _field(field: dataclasses.Field[Any], value: Any) -> Any:
    if value is None and field.metadata.get("kafka_type") == "datetime_i64":
        return -1
    return plain(value)
