"""The packed forms of what the sequencer keeps: an object's outcome and a producer's last batches.

Outcome, version 1: `version u8 · count u32 · five columns` (error i16, offset i64, append_ms i64, log_start i64,
duplicate u8), each column `1 · one value` where all batches agree, else `0 · count values`. Little endian.
Producer batches: up to five of `first_sequence i32 · last_sequence i32 · offset i64 · append_ms i64`, oldest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import Struct, calcsize, pack, unpack_from
from struct import error as StructError  # noqa: N812

from catalog.sequence import BATCHES_REMEMBERED, BatchOutcome, ProducerBatch

_VERSION = 1
_HEAD = Struct("<BI")
_COLUMNS = ("h", "q", "q", "q", "?")
_PRODUCER_BATCH = Struct("<iiqq")
_PRODUCER_BATCHES = tuple(Struct("<" + "iiqq" * count) for count in range(BATCHES_REMEMBERED + 1))
_new = tuple.__new__


class OutcomeCorrupt(ValueError):
    """Stored outcome bytes that this program didn't write: stop and report."""


def pack_outcome(outcomes: Sequence[BatchOutcome]) -> bytes:
    """Outcomes of one object, in the order of its batches."""
    count = len(outcomes)
    parts = [_HEAD.pack(_VERSION, count)]
    for code, values in zip(_COLUMNS, zip(*outcomes, strict=True), strict=False):
        if values.count(values[0]) == count:
            parts.append(pack(f"<B{code}", 1, values[0]))
        else:
            parts.append(pack(f"<B{count}{code}", 0, *values))
    return b"".join(parts)


def unpack_outcome(packed: bytes) -> tuple[BatchOutcome, ...]:
    """What `pack_outcome` packed. Raises OutcomeCorrupt."""
    columns: list[Sequence[int]] = []
    try:
        version, count = _HEAD.unpack_from(packed)
        if version != _VERSION:
            raise OutcomeCorrupt(f"outcome version {version} is not known here")
        at = _HEAD.size
        for code in _COLUMNS if count else ():
            same = packed[at] == 1
            form = f"<{code}" if same else f"<{count}{code}"
            values = unpack_from(form, packed, at + 1)
            columns.append(values * count if same else values)
            at += 1 + calcsize(form)
    except (StructError, IndexError) as error:
        raise OutcomeCorrupt(f"outcome of {len(packed)} bytes can't be read: {error}") from error
    return tuple(map(BatchOutcome._make, zip(*columns, strict=True)))


def pack_producer_batches(batches: Sequence[ProducerBatch]) -> bytes:
    """A producer's remembered batches."""
    return _PRODUCER_BATCHES[len(batches)].pack(*chain.from_iterable(batches))


def unpack_producer_batches(packed: bytes) -> tuple[ProducerBatch, ...]:
    """What `pack_producer_batches` packed."""
    return tuple([_new(ProducerBatch, batch) for batch in _PRODUCER_BATCH.iter_unpack(packed)])
