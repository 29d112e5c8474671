"""Which record of a batch is the first at or after a timestamp, and not below the log start. Runs in a bounded worker; decompression is bounded too."""

from __future__ import annotations

from broker.fetch.offsets import FirstAtLeast
from schemas.kafka.batch import HEADER_BYTES, read_header
from schemas.kafka.records import iter_records


def record_finder(decompressed_bytes_max: int) -> FirstAtLeast:
    """The finder with its bound on one batch's decompressed bytes."""

    def first_at_least(batch: memoryview, timestamp: int, log_start: int) -> tuple[int, int] | None:
        header = read_header(batch)
        for record in iter_records(header, batch[HEADER_BYTES:], max_bytes=decompressed_bytes_max):
            if record.timestamp >= timestamp and record.offset >= log_start:
                return record.offset, record.timestamp
        return None

    return first_at_least
