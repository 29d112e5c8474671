"""Small Kafka messages between bytes and plain values, driven by kio's schemas. Pure.

kio's generated dataclasses say which fields a message has in which version; the reading and writing is done here,
because kio's native reader reserves memory for a wire count before it looks at what remains (a five-byte CreateTopics
v7 ends the whole process), and its writer needs typed entities per version. Produce, Fetch and Metadata have codecs of
their own (`schemas.kafka`).

A message is a dict: ints for error codes and durations (ms), `UUID` or None (the zero UUID), lists for arrays. Fields
that a version lacks are left out at writing and absent at reading, so a handler is written once for all versions.

Invariants: no allocation from a wire count before it is checked against the bytes that remain, and no more than
`elements_max` array elements in one message; any malformed input raises `WireError`, nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from struct import Struct
from types import NoneType, UnionType
from typing import Any, NamedTuple
from uuid import UUID

from kio.index import load_request_schema, load_response_schema

from schemas.kafka.wire import STRING_BYTES_MAX, ZERO_UUID, Buffer, WireError, read_uvarint, uvarint

Message = dict[str, Any]

ELEMENTS_MAX = 100_000
"""Most array elements in one request, tagged fields included, unless told otherwise: each costs objects and loop time."""


class Cursor:
    """Where reading stands. `elements_left` is the message's remaining budget of array elements."""

    __slots__ = ("at", "data", "elements_left", "end")

    def __init__(self, data: Buffer, at: int, end: int, elements_left: int) -> None:
        self.data = data
        self.at = at
        self.end = end
        self.elements_left = elements_left

    def take(self, size: int) -> int:
        """Move over `size` bytes and return where they begin."""
        at = self.at
        if size < 0 or size > self.end - at:
            raise WireError(f"{size} bytes asked for where {self.end - at} remain")
        self.at = at + size
        return at

    def uvarint(self) -> int:
        """An unsigned varint of at most five bytes and 31 bits."""
        value, self.at = read_uvarint(self.data, self.at)
        if self.at > self.end:
            raise WireError(f"a varint goes beyond byte {self.end}")
        return value

    def count(self, wire_count: int) -> int:
        """An array's length, allowed only where that many bytes remain (each element has at least one)."""
        if wire_count > self.end - self.at:
            raise WireError(f"{wire_count} elements announced where {self.end - self.at} bytes remain")
        if wire_count > self.elements_left:
            raise WireError("more array elements than one request may have (request_elements_max)")
        self.elements_left -= wire_count
        return wire_count


Read = Callable[[Cursor], Any]
Write = Callable[[bytearray, Any], None]


class Codec(NamedTuple):
    """Both directions of one type, with the value that stands for "not given"."""

    read: Read
    write: Write
    zero: object


def _fixed(code: str, zero: object = 0) -> Codec:
    struct = Struct(">" + code)
    unpack, pack, size = struct.unpack_from, struct.pack, struct.size

    def read(cursor: Cursor) -> Any:
        return unpack(cursor.data, cursor.take(size))[0]

    def write(out: bytearray, value: Any) -> None:
        out += pack(value)

    return Codec(read, write, zero)


def _read_uuid(cursor: Cursor) -> UUID | None:
    at = cursor.take(16)
    value = UUID(bytes=bytes(cursor.data[at : at + 16]))
    return None if value == ZERO_UUID else value


def _write_uuid(out: bytearray, value: UUID | None) -> None:
    out += (value or ZERO_UUID).bytes


_FIXED: dict[str, Codec] = {
    "int8": _fixed("b"),
    "int16": _fixed("h"),
    "uint16": _fixed("H"),
    "int32": _fixed("i"),
    "uint32": _fixed("I"),
    "int64": _fixed("q"),
    "float64": _fixed("d", 0.0),
    "bool": _fixed("?", False),
    "error_code": _fixed("h"),
    "timedelta_i32": _fixed("i"),
    "timedelta_i64": _fixed("q"),
    "datetime_i64": _fixed("q"),
    "uuid": Codec(_read_uuid, _write_uuid, None),
}
_I16 = Struct(">h")
_I32 = Struct(">i")


def _length_reader(prefix: Struct | None) -> Callable[[Cursor], int]:
    """Reads a length: compact (uvarint minus one) where `prefix` is None, else fixed; below zero means null."""
    if prefix is None:
        return lambda cursor: cursor.uvarint() - 1
    unpack, size = prefix.unpack_from, prefix.size

    def read(cursor: Cursor) -> int:
        length: int = unpack(cursor.data, cursor.take(size))[0]
        return length

    return read


def _length_writer(prefix: Struct | None) -> Callable[[bytearray, int], None]:
    if prefix is None:
        return lambda out, length: out.extend(uvarint(length + 1))

    def write(out: bytearray, length: int) -> None:
        out += prefix.pack(length)

    return write


def _text(flexible: bool, nullable: bool) -> Codec:
    prefix = None if flexible else _I16
    read_length, write_length = _length_reader(prefix), _length_writer(prefix)

    def read(cursor: Cursor) -> str | None:
        length = read_length(cursor)
        if length < 0:
            if not nullable:
                raise WireError("null where a string is required")
            return None
        if length > STRING_BYTES_MAX:
            raise WireError(f"a string of {length} bytes is longer than {STRING_BYTES_MAX}")
        at = cursor.take(length)
        try:
            return str(cursor.data[at : at + length], "utf-8")
        except UnicodeDecodeError as error:
            raise WireError("a string is not UTF-8") from error

    def write(out: bytearray, value: str | None) -> None:
        if value is None:
            if not nullable:
                raise ValueError("null where the schema wants a string")
            write_length(out, -1)
            return
        data = value.encode()
        write_length(out, len(data))
        out += data

    return Codec(read, write, None if nullable else "")


def _bytes(flexible: bool, nullable: bool) -> Codec:
    prefix = None if flexible else _I32
    read_length, write_length = _length_reader(prefix), _length_writer(prefix)

    def read(cursor: Cursor) -> bytes | None:
        length = read_length(cursor)
        if length < 0:
            if not nullable:
                raise WireError("null where bytes are required")
            return None
        at = cursor.take(length)
        return bytes(cursor.data[at : at + length])

    def write(out: bytearray, value: bytes | None) -> None:
        if value is None:
            if not nullable:
                raise ValueError("null where the schema wants bytes")
            write_length(out, -1)
            return
        write_length(out, len(value))
        out += value

    return Codec(read, write, None if nullable else b"")


def _array(inner: Codec, flexible: bool, nullable: bool) -> Codec:
    prefix = None if flexible else _I32
    read_length, write_length = _length_reader(prefix), _length_writer(prefix)
    read_one, write_one = inner.read, inner.write

    def read(cursor: Cursor) -> list[Any] | None:
        length = read_length(cursor)
        if length < 0:
            if not nullable:
                raise WireError("null where an array is required")
            return None
        return [read_one(cursor) for _ in range(cursor.count(length))]

    def write(out: bytearray, values: Any) -> None:
        if values is None:
            if not nullable:
                raise ValueError("null where the schema wants an array")
            write_length(out, -1)
            return
        write_length(out, len(values))
        for value in values:
            write_one(out, value)

    return Codec(read, write, None if nullable else ())


def _nullable(inner: Codec) -> Codec:
    """A structure behind a byte that says whether it is there."""
    flag = _FIXED["int8"]

    def read(cursor: Cursor) -> Any:
        return None if flag.read(cursor) < 0 else inner.read(cursor)

    def write(out: bytearray, value: Any) -> None:
        flag.write(out, -1 if value is None else 1)
        if value is not None:
            inner.write(out, value)

    return Codec(read, write, None)


class _Field(NamedTuple):
    name: str
    codec: Codec
    default: object


def _field_codec(kind: Any, kafka_type: str | None, flexible: bool, tagged: bool) -> Codec:
    nullable = False
    if isinstance(kind, UnionType) or typing.get_origin(kind) is typing.Union:
        nullable = not tagged
        kind = next(option for option in typing.get_args(kind) if option is not NoneType)
    is_array = typing.get_origin(kind) is tuple
    inner_kind = typing.get_args(kind)[0] if is_array else kind
    inner_nullable = nullable and not is_array
    if kafka_type is None:
        inner = _nullable(_entity(inner_kind)) if inner_nullable else _entity(inner_kind)
    elif kafka_type == "string":
        inner = _text(flexible, inner_nullable)
    elif kafka_type == "bytes":
        inner = _bytes(flexible, inner_nullable)
    else:
        inner = _FIXED[kafka_type]
    return _array(inner, flexible, nullable) if is_array else inner


def _plain_default(field: dataclasses.Field[Any], codec: Codec) -> object:
    """kio's default where it is a plain number, string or empty tuple, else the type's zero."""
    default = field.default
    if isinstance(default, bool | str | tuple) or default is None:
        return default
    return int(default) if isinstance(default, int) else codec.zero


@functools.cache
def _entity(cls: type[Any]) -> Codec:
    flexible: bool = cls.__flexible__
    hints = typing.get_type_hints(cls)
    plain: list[_Field] = []
    tagged: dict[int, _Field] = {}
    for field in dataclasses.fields(cls):
        tag = field.metadata.get("tag")
        codec = _field_codec(hints[field.name], field.metadata.get("kafka_type"), flexible, tag is not None)
        entry = _Field(field.name, codec, _plain_default(field, codec))
        if tag is None:
            plain.append(entry)
        else:
            tagged[tag] = entry
    return Codec(_entity_reader(plain, tagged, flexible), _entity_writer(plain, tagged, flexible), None)


def _entity_reader(plain: list[_Field], tagged: dict[int, _Field], flexible: bool) -> Read:
    readers = [(field.name, field.codec.read) for field in plain]

    def read(cursor: Cursor) -> Message:
        message = {name: read_field(cursor) for name, read_field in readers}
        if flexible:
            last = -1
            for _ in range(cursor.count(cursor.uvarint())):
                last = _read_tagged(cursor, tagged, message, last)
        return message

    return read


def _read_tagged(cursor: Cursor, tagged: dict[int, _Field], message: Message, last: int) -> int:
    """One tagged field: read where it is known, else passed over. Gives back its tag, which has to be above `last`."""
    tag = cursor.uvarint()
    if tag <= last:
        raise WireError(f"tag {tag} follows tag {last}; tags must ascend")
    size = cursor.uvarint()
    at = cursor.take(size)
    field = tagged.get(tag)
    if field is not None:
        inner = Cursor(cursor.data, at, at + size, cursor.elements_left)
        message[field.name] = field.codec.read(inner)
        cursor.elements_left = inner.elements_left
    return tag


def _entity_writer(plain: list[_Field], tagged: dict[int, _Field], flexible: bool) -> Write:
    writers = [(field.name, field.codec.write, field.default) for field in plain]

    def write(out: bytearray, values: Mapping[str, Any]) -> None:
        get = values.get
        for name, write_field, default in writers:
            write_field(out, get(name, default))
        if flexible:
            present = [
                (tag, field)
                for tag, field in sorted(tagged.items())
                if not _is_default(get(field.name, field.default), field.default)
            ]
            out += uvarint(len(present))
            for tag, field in present:
                body = bytearray()
                field.codec.write(body, values[field.name])
                out += uvarint(tag)
                out += uvarint(len(body))
                out += body

    return write


def _is_default(value: object, default: object) -> bool:
    return not value if isinstance(default, tuple) else value == default


@functools.cache
def request_codec(api_key: int, version: int) -> Codec:
    """The codec of a request's body."""
    return _entity(load_request_schema(api_key, version))


@functools.cache
def response_codec(api_key: int, version: int) -> Codec:
    """The codec of a response's body."""
    return _entity(load_response_schema(api_key, version))


def read_request(
    api_key: int, version: int, frame: Buffer, at: int = 0, *, elements_max: int = ELEMENTS_MAX
) -> Message:
    """The request whose body begins at `at`. Bytes behind the last field are ignored, as Kafka does. Raises WireError."""
    message: Message = request_codec(api_key, version).read(Cursor(frame, at, len(frame), elements_max))
    return message


def write_response(api_key: int, version: int, values: Mapping[str, Any]) -> bytes:
    """Encode a response's body from values, which may hold fields this version doesn't have."""
    out = bytearray()
    response_codec(api_key, version).write(out, values)
    return bytes(out)
