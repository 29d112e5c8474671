"""Record batches (magic 2) as a client writes and reads them: an implementation apart from the broker's, so that they check each other."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from neve.simulation.history import Read

_HEAD = Struct(">qiibI")
_BODY = Struct(">hiqqqhii")
_CRC_FROM = 21
_BODY_END = _CRC_FROM + _BODY.size
APPEND_TIME_BIT = 0x08


class Decoded(NamedTuple):
    """Records of a fetched partition; `batches` whole ones were there, `corrupt` of them with a wrong CRC."""

    records: tuple[Read, ...]
    batches: int
    corrupt: int


def varint(value: int) -> bytes:
    """A zigzag varint."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def encode(
    values: Sequence[bytes], timestamp: int, producer_id: int, producer_epoch: int, base_sequence: int
) -> bytearray:
    """One uncompressed batch of records without keys; record n has `timestamp + n`."""
    records = bytearray()
    for at, value in enumerate(values):
        body = b"\x00" + varint(at) + varint(at) + b"\x01" + varint(len(value)) + value + b"\x00"
        records += varint(len(body)) + body
    count = len(values)
    body = _BODY.pack(0, count - 1, timestamp, timestamp + count - 1, producer_id, producer_epoch, base_sequence, count)
    checked = body + records
    return bytearray(_HEAD.pack(0, len(checked) + 9, -1, 2, crc32c(checked)) + checked)


def decode(data: bytes, from_offset: int) -> Decoded:
    """Records at or behind `from_offset` of the whole batches in `data`; a cut batch at the end is left out."""
    found: list[Read] = []
    at = batches = corrupt = 0
    while len(data) - at >= _BODY_END:
        base, length, _epoch, magic, crc = _HEAD.unpack_from(data, at)
        end = at + 12 + length
        if end > len(data):
            break
        batches += 1
        if magic != 2 or crc32c(data[at + _CRC_FROM : end]) != crc:
            corrupt += 1
        else:
            found += [record for record in _records(data, at, base) if record.offset >= from_offset]
        at = end
    return Decoded(tuple(found), batches, corrupt)


def _records(data: bytes, at: int, base: int) -> list[Read]:
    attributes, _delta, base_time, max_time, _pid, _epoch, _sequence, count = _BODY.unpack_from(data, at + _CRC_FROM)
    place = at + _BODY_END
    out = []
    for _record in range(count):
        _length, place = _varint(data, place)
        time_delta, place = _varint(data, place + 1)
        offset_delta, place = _varint(data, place)
        key_length, place = _varint(data, place)
        place += max(key_length, 0)
        value_length, place = _varint(data, place)
        value = data[place : place + value_length]
        place += value_length
        headers, place = _varint(data, place)
        assert headers == 0, "simulated producers send no headers"
        timestamp = max_time if attributes & APPEND_TIME_BIT else base_time + time_delta
        out.append(Read(base + offset_delta, value, timestamp))
    return out


def _varint(data: bytes, at: int) -> tuple[int, int]:
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
