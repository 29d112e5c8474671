"""kio's message classes as an independent oracle: looked up by name, drawn by hypothesis or filled with samples, read, written."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import io
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

Override = Mapping[str, Any]
_INTS = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint16": (0, (1 << 16) - 1),
    "uint32": (0, (1 << 32) - 1),
}


def entity_class(api: str, version: int, kind: str) -> Any:
    """kio's class of an API ("produce"), version and kind ("request" or "response")."""
    module = importlib.import_module(f"kio.schema.{api}.v{version}.{kind}")
    name = "".join(part.capitalize() for part in api.split("_")) + kind.capitalize()
    return getattr(module, name)


def to_bytes(entity: Any) -> bytes:
    """kio's encoding."""
    out = io.BytesIO()
    entity_writer(type(entity))(out, entity)
    return out.getvalue()


def from_bytes(cls: Any, data: bytes) -> Any:
    """kio's decoding; every byte has to be used."""
    value, size = entity_reader(cls)(data, 0)
    assert size == len(data)
    return value


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a field of a kio class holds."""

    name: str
    item: Any
    kafka_type: str | None
    array: bool
    nullable: bool
    tagged: bool


@cache
def shapes(cls: Any) -> tuple[Shape, ...]:
    """The fields of a kio class."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        nullable = isinstance(hint, types.UnionType)
        if nullable:
            hint = next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        array = typing.get_origin(hint) is tuple
        item = typing.get_args(hint)[0] if array else hint
        kafka_type = None if dataclasses.is_dataclass(item) else field.metadata["kafka_type"]
        found.append(Shape(field.name, item, kafka_type, array, nullable, "tag" in field.metadata))
    return tuple(found)


def milliseconds(value: int) -> datetime.timedelta:
    """A duration as kio wants it."""
    return datetime.timedelta(milliseconds=value)


def moment(value: int) -> datetime.datetime:
    """A point in time as kio wants it, from Unix ms."""
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=value)


def _scalars(kafka_type: str, nullable: bool) -> st.SearchStrategy[Any]:
    if kafka_type in _INTS:
        low, high = _INTS[kafka_type]
        found: st.SearchStrategy[Any] = st.integers(low, high)
    elif kafka_type == "string":
        found = st.text(max_size=12)
    elif kafka_type in ("bytes", "records"):
        found = st.binary(max_size=200)
    elif kafka_type == "uuid":
        return st.none() | st.uuids().filter(lambda value: value.int != 0)
    elif kafka_type == "bool":
        found = st.booleans()
    elif kafka_type == "error_code":
        found = st.sampled_from(ErrorCode)
    elif kafka_type == "float64":
        found = st.floats(allow_nan=False)
    elif kafka_type in ("timedelta_i32", "timedelta_i64"):
        found = st.integers(0, (1 << 31) - 1).map(milliseconds)
    elif kafka_type == "datetime_i64":
        found = st.integers(0, 1 << 42).map(moment)
    else:
        raise NotImplementedError(kafka_type)
    return st.none() | found if nullable else found


def entities(cls: Any, *, with_tags: bool) -> st.SearchStrategy[Any]:
    """Any value of a kio class; tagged fields stay at their defaults unless `with_tags`."""
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for shape in shapes(cls):
        if shape.tagged and not with_tags:
            continue
        if shape.kafka_type is None:
            item = entities(shape.item, with_tags=with_tags)
        else:
            item = _scalars(shape.kafka_type, shape.nullable and not shape.array and not shape.tagged)
        if shape.array:
            item = st.lists(item, max_size=3).map(tuple)
            item = st.none() | item if shape.nullable else item
        elif shape.kafka_type is None and shape.nullable:
            item = st.none() | item
        if shape.tagged and not shape.array and shape.kafka_type == "string":
            item = st.none() | item
        fields[shape.name] = item
    return st.builds(cls, **fields)


def sample(cls: Any, override: Callable[[str, str], Any], null: object) -> Any:
    """One populated value of a kio class. `override(class name, field name)` gives a value, or None for the usual sample,
    or `null` for None."""
    values: dict[str, Any] = {}
    for shape in shapes(cls):
        value = override(cls.__name__, shape.name)
        if value is None:
            if shape.tagged:
                continue
            value = sample(shape.item, override, null) if shape.kafka_type is None else _SAMPLES[shape.kafka_type]
            if shape.array:
                value = (value,)
        values[shape.name] = None if value is null else value
    return cls(**values)


_SAMPLES: dict[str, Any] = {
    "int8": 0,
    "int16": 1,
    "int32": 1,
    "int64": 0,
    "string": "sample",
    "bytes": b"sample",
    "records": b"",
    "uuid": uuid.UUID(int=7),
    "bool": False,
    "timedelta_i32": milliseconds(1000),
    "timedelta_i64": milliseconds(1000),
    "datetime_i64": moment(1000),
    "float64": 0.5,
}
