"""Look into the records of a batch for a compacted topic: every record needs a key. Pure, and slow: for a worker.

Batches that aren't whole or whose checksum is wrong are left to the checks that every batch goes through.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.kafka.batch import HEADER_BYTES, BatchError, read_header
from schemas.kafka.records import iter_records

REPORTED_MAX = 100
"""Records named in one answer; a batch of a million records without keys gets no message for each."""


class Objection(NamedTuple):
    """Why a batch is refused. `record_errors` are (index in the batch, message)."""

    message: str
    record_errors: tuple[tuple[int, str], ...]


def look_for_null_keys(batch: memoryview, bytes_max: int) -> Objection | None:
    """None where every record has a key. `bytes_max` bounds what the records decompress to."""
    try:
        header = read_header(batch)
        unkeyed = [
            place
            for place, record in enumerate(iter_records(header, batch[HEADER_BYTES:], max_bytes=bytes_max))
            if record.key is None
        ]
    except BatchError as error:
        return Objection(f"the records can't be read: {error}", ())
    if not unkeyed:
        return None
    errors = tuple((place, "a compacted topic takes no record without a key") for place in unkeyed[:REPORTED_MAX])
    return Objection(f"{len(unkeyed)} records have no key, which a compacted topic needs", errors)
