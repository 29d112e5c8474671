"""Kafka's wire primitives, bounded: every read checks what remains before it slices, counts or allocates.

Readers take a buffer and a position and give back a value and the next position; whatever is wrong with the bytes is a
`WireError`, never an IndexError or a huge allocation. Invariants: an array count is checked against the bytes that remain
before anything is made from it; tags stand in strictly ascending order (KIP-482); a string is at most 32767 bytes long.
As in Kafka's own reader, any negative length means null, any non-zero bool is true, and bytes behind a body are ignored.

Also the two headers. A request whose version is flexible has header v2 (tagged fields after the client id), others have
v1; its response has v1 or v0, except ApiVersions, whose response header is always v0 so that any client can read it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, TypeAlias
from uuid import UUID

from schemas.kafka.api_keys import FLEXIBLE_FROM, NEVER, ApiKey

Buffer: TypeAlias = bytes | bytearray | memoryview

STRING_BYTES_MAX = 0x7FFF
INT32_MAX = 0x7FFF_FFFF
ZERO_UUID = UUID(int=0)
REQUEST_ROOM = 100_000
"""Most partitions in one request; a topic counts as TOPIC_COST. Each costs objects and time on the loop, however few bytes
it has on the wire."""
TOPIC_COST = 4

_I16 = Struct(">h")
_I32 = Struct(">i")
_REQUEST_HEAD = Struct(">hhih")
_SMALL_UVARINTS = tuple(bytes((n,)) for n in range(128))
_U32_MASK = (1 << 32) - 1
_U64_MASK = (1 << 64) - 1
_new = tuple.__new__


class WireError(ValueError):
    """Bytes do not follow the protocol. The connection they came on should be closed, as Kafka does."""


def cut_short(at: int) -> WireError:
    """The error for a message that ends in the middle of a field which starts at `at`."""
    return WireError(f"the message ends inside the field at byte {at}")


# -- integers ----------------------------------------------------------------------------------------------------------


def read_i16(buffer: Buffer, at: int) -> tuple[int, int]:
    """Big-endian int16."""
    try:
        return _I16.unpack_from(buffer, at)[0], at + 2
    except struct.error:
        raise cut_short(at) from None


def read_i32(buffer: Buffer, at: int) -> tuple[int, int]:
    """Big-endian int32."""
    try:
        return _I32.unpack_from(buffer, at)[0], at + 4
    except struct.error:
        raise cut_short(at) from None


def read_uvarint(buffer: Buffer, at: int) -> tuple[int, int]:
    """Unsigned varint of at most five bytes, 0 .. 2^31-1: lengths, counts and tags are never more."""
    try:
        value = buffer[at]
        if value < 0x80:
            return value, at + 1
        value &= 0x7F
        for place in range(1, 5):
            byte = buffer[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if value > INT32_MAX:
                    raise WireError(f"the varint at byte {at} is {value}, more than {INT32_MAX}")
                return value, at + place + 1
    except IndexError:
        raise cut_short(at) from None
    raise WireError(f"the varint at byte {at} is longer than five bytes")


def _read_raw(buffer: Buffer, at: int, bytes_max: int) -> tuple[int, int]:
    value = 0
    try:
        for place in range(bytes_max):
            byte = buffer[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value, at + place + 1
    except IndexError:
        raise cut_short(at) from None
    raise WireError(f"the varint at byte {at} is longer than {bytes_max} bytes")


def read_varint(buffer: Buffer, at: int) -> tuple[int, int]:
    """Zigzag varint of 32 bits. Bits above the 32nd in a fifth byte are dropped, as Kafka's reader does."""
    raw, at = _read_raw(buffer, at, 5)
    raw &= _U32_MASK
    return (raw >> 1) ^ -(raw & 1), at


def read_varlong(buffer: Buffer, at: int) -> tuple[int, int]:
    """Zigzag varint of 64 bits. Bits above the 64th in a tenth byte are dropped, as Kafka's reader does."""
    raw, at = _read_raw(buffer, at, 10)
    raw &= _U64_MASK
    return (raw >> 1) ^ -(raw & 1), at


def uvarint(value: int) -> bytes:
    """Unsigned varint."""
    if value < 0x80:
        return _SMALL_UVARINTS[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """Zigzag varint of a 32-bit number."""
    return uvarint((value << 1) ^ (value >> 31))


def varlong(value: int) -> bytes:
    """Zigzag varint of a 64-bit number."""
    return uvarint((value << 1) ^ (value >> 63))


# -- strings, ids ------------------------------------------------------------------------------------------------------


def _text(buffer: Buffer, at: int, size: int) -> tuple[str, int]:
    if size > STRING_BYTES_MAX:
        raise WireError(f"a string of {size} bytes is longer than {STRING_BYTES_MAX}")
    end = at + size
    if end > len(buffer):
        raise cut_short(at)
    try:
        return str(buffer[at:end], "utf-8"), end
    except UnicodeDecodeError:
        raise WireError(f"the string at byte {at} is not UTF-8") from None


def read_nullable_string(buffer: Buffer, at: int) -> tuple[str | None, int]:
    """String with an int16 length; negative is null."""
    try:
        size: int = _I16.unpack_from(buffer, at)[0]
    except struct.error:
        raise cut_short(at) from None
    return (None, at + 2) if size < 0 else _text(buffer, at + 2, size)


def read_string(buffer: Buffer, at: int) -> tuple[str, int]:
    """String with an int16 length that may not be null."""
    try:
        size: int = _I16.unpack_from(buffer, at)[0]
    except struct.error:
        raise cut_short(at) from None
    if size < 0:
        raise WireError(f"the string at byte {at} may not be null")
    return _text(buffer, at + 2, size)


def read_compact_nullable_string(buffer: Buffer, at: int) -> tuple[str | None, int]:
    """String with its length plus one as varint; zero is null."""
    size, at = read_uvarint(buffer, at)
    return (None, at) if not size else _text(buffer, at, size - 1)


def read_compact_string(buffer: Buffer, at: int) -> tuple[str, int]:
    """String with its length plus one as varint that may not be null."""
    size, start = read_uvarint(buffer, at)
    if not size:
        raise WireError(f"the string at byte {at} may not be null")
    return _text(buffer, start, size - 1)


@lru_cache(maxsize=4096)
def uuid_of(raw: bytes) -> UUID:
    """The UUID of 16 bytes; the same few topic ids come over and over, and making a UUID is slow."""
    return UUID(bytes=raw)


def read_uuid(buffer: Buffer, at: int) -> tuple[UUID, int]:
    """UUID of 16 bytes; all zero means "none" in Kafka and is given as ZERO_UUID."""
    end = at + 16
    if end > len(buffer):
        raise cut_short(at)
    return uuid_of(bytes(buffer[at:end])), end


def nullable_string(value: str | None) -> bytes:
    """String with an int16 length, -1 for null."""
    if value is None:
        return b"\xff\xff"
    raw = value.encode()
    return _I16.pack(len(raw)) + raw


def compact_nullable_string(value: str | None) -> bytes:
    """String with its length plus one as varint, zero for null."""
    if value is None:
        return b"\0"
    raw = value.encode()
    return uvarint(len(raw) + 1) + raw


# -- arrays and tagged fields ------------------------------------------------------------------------------------------


def _checked(count: int, buffer: Buffer, at: int, item_bytes_min: int) -> int:
    if count * item_bytes_min > len(buffer) - at:
        raise WireError(
            f"{count} items of at least {item_bytes_min} bytes don't fit the {len(buffer) - at} that remain"
        )
    return count


def read_count(buffer: Buffer, at: int, item_bytes_min: int) -> tuple[int, int]:
    """Count of an array with an int32 count, checked against what remains; -1 for null."""
    count, at = read_i32(buffer, at)
    return (-1, at) if count < 0 else (_checked(count, buffer, at, item_bytes_min), at)


def read_compact_count(buffer: Buffer, at: int, item_bytes_min: int) -> tuple[int, int]:
    """Count of an array with its count plus one as varint, checked against what remains; -1 for null."""
    count, at = read_uvarint(buffer, at)
    return (-1, at) if not count else (_checked(count - 1, buffer, at, item_bytes_min), at)


def not_null(count: int, what: str) -> int:
    """The count, unless the array is null where the protocol forbids it."""
    if count < 0:
        raise WireError(f"{what} may not be null")
    return count


def less_room(room: int, cost: int) -> int:
    """What is left of a request's room for partitions and topics after `cost` more."""
    if cost > room:
        raise WireError(
            f"more than {REQUEST_ROOM} partitions, each topic counted as {TOPIC_COST}, in one request; send several"
        )
    return room - cost


def read_tags(buffer: Buffer, at: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Tagged fields as {tag: (start, end)}. A tag that doesn't ascend, or a size beyond the end, is an error."""
    count, at = read_uvarint(buffer, at)
    if not count:
        return {}, at
    _checked(count, buffer, at, 2)
    found: dict[int, tuple[int, int]] = {}
    last = -1
    for _ in range(count):
        tag, at = read_uvarint(buffer, at)
        size, at = read_uvarint(buffer, at)
        if tag <= last:
            raise WireError(f"tag {tag} follows tag {last}; tags must ascend")
        last = tag
        end = at + size
        if end > len(buffer):
            raise cut_short(at)
        found[tag] = (at, end)
        at = end
    return found, at


def skip_tags(buffer: Buffer, at: int) -> int:
    """The position behind tagged fields that nobody here knows; checked like `read_tags`."""
    try:
        if not buffer[at]:
            return at + 1
    except IndexError:
        raise cut_short(at) from None
    count, at = read_uvarint(buffer, at)
    _checked(count, buffer, at, 2)
    last = -1
    for _ in range(count):
        tag, at = read_uvarint(buffer, at)
        size, at = read_uvarint(buffer, at)
        if tag <= last:
            raise WireError(f"tag {tag} follows tag {last}; tags must ascend")
        last = tag
        at += size
        if at > len(buffer):
            raise cut_short(at - size)
    return at


# -- headers -----------------------------------------------------------------------------------------------------------


class RequestHeader(NamedTuple):
    """What stands before every request body."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


def read_request_header(frame: Buffer) -> tuple[RequestHeader, int]:
    """The header of a frame (without its length prefix) and the position of the body.

    Raises WireError where the API key is unknown: nobody could know which header follows. A client id that is not UTF-8
    is read with replacement characters, as Kafka does.
    """
    try:
        key, version, correlation_id, size = _REQUEST_HEAD.unpack_from(frame)
    except struct.error:
        raise WireError(f"{len(frame)} bytes can't hold a request header") from None
    flexible_from = FLEXIBLE_FROM.get(key)
    if flexible_from is None:
        raise WireError(f"API key {key} is unknown")
    at = 10
    client_id = None
    if size >= 0:
        end = at + size
        if end > len(frame):
            raise cut_short(at)
        client_id = str(frame[at:end], "utf-8", "replace")
        at = end
    if version >= flexible_from:
        at = skip_tags(frame, at)
    return _new(RequestHeader, (key, version, correlation_id, client_id)), at


def has_flexible_response_header(api_key: int, api_version: int) -> bool:
    """True where the response header carries tagged fields (v1)."""
    return api_version >= FLEXIBLE_FROM.get(api_key, NEVER) and api_key != ApiKey.API_VERSIONS


def response_header(api_key: int, api_version: int, correlation_id: int) -> bytes:
    """The response header, without the length prefix of the frame."""
    head = _I32.pack(correlation_id)
    return head + b"\0" if has_flexible_response_header(api_key, api_version) else head


def response_head(api_key: int, api_version: int, correlation_id: int, body_bytes: int) -> bytes:
    """Length prefix and response header of a body of `body_bytes`: what is sent before the body's buffers."""
    header = response_header(api_key, api_version, correlation_id)
    return _I32.pack(len(header) + body_bytes) + header
