"""The watermark of a table: up to which offset of each partition its rows go, and who put them there.

Pure. It stands in the table's properties (looked at first; survives the expiry of snapshots) and in the summary of every
snapshot of ours (which shows a rollback). Invariant owned here: a watermark never goes back (I5, I7).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

LAYOUT_VERSION = "1"

OFFSETS = "neve.offsets"
EPOCH = "neve.epoch"
BATCH_ID = "neve.batch-id"
VALID_THROUGH_MS = "neve.valid-through-ms"
TOPIC_ID = "neve.topic-id"
TOPIC = "neve.topic"
KIND = "neve.kind"
ROWS = "neve.rows"
"""`append`: every record; `latest`: the current one of each (partition, key)."""
OFFSETS_START = "neve.offsets-start"
"""Where the table begins: partition -> first offset that was ever wanted in it (`iceberg.start`)."""
COLUMNS = "neve.columns"
"""`iceberg.columns` as the table was made with it; absent in raw mode. `neve verify` reads records by it."""
LAYOUT = "neve.layout-version"


class WatermarkUnreadable(ValueError):
    """The table's properties don't hold a watermark as we write it: somebody changed them."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Next offset of each partition, and the commit that set it."""

    offsets: Mapping[int, int]
    epoch: int
    """Fencing epoch of the committer's lease; only grows."""
    batch_id: str
    """Names one change to the table; a commit whose batch id is there already has landed."""
    valid_through_ms: int
    """Every record acknowledged before this time is in the table."""

    def properties(self) -> dict[str, str]:
        """As table properties and snapshot summary entries."""
        return {
            OFFSETS: offsets_text(self.offsets),
            EPOCH: str(self.epoch),
            BATCH_ID: self.batch_id,
            VALID_THROUGH_MS: str(self.valid_through_ms),
        }


def offsets_text(offsets: Mapping[int, int]) -> str:
    """JSON object, partition -> next offset, by partition number."""
    return json.dumps({str(partition): offsets[partition] for partition in sorted(offsets)}, separators=(",", ":"))


def parse_offsets(text: str) -> dict[int, int]:
    """The inverse of `offsets_text`. Raises WatermarkUnreadable."""
    try:
        parsed = json.loads(text)
        if not isinstance(parsed, dict):
            raise TypeError("not an object")
        offsets = {int(partition): next_ for partition, next_ in parsed.items()}
    except (ValueError, TypeError) as error:
        raise WatermarkUnreadable(f"{OFFSETS} is no JSON object of partition to offset: {text[:100]!r}") from error
    for partition, next_ in offsets.items():
        if type(next_) is not int or next_ < 0 or partition < 0:
            raise WatermarkUnreadable(f"{OFFSETS} holds {partition}: {next_!r}")
    return offsets


def read_watermark(properties: Mapping[str, str | None]) -> Watermark:
    """The watermark of a table's properties. Raises WatermarkUnreadable naming what is missing."""
    found: dict[str, str] = {}
    for name in (OFFSETS, EPOCH, BATCH_ID, VALID_THROUGH_MS):
        value = properties.get(name)
        if value is None:
            raise WatermarkUnreadable(f"the table property {name} is gone")
        found[name] = value
    try:
        epoch, valid_through_ms = int(found[EPOCH]), int(found[VALID_THROUGH_MS])
    except ValueError as error:
        raise WatermarkUnreadable(f"{EPOCH} or {VALID_THROUGH_MS} is no number") from error
    return Watermark(parse_offsets(found[OFFSETS]), epoch, found[BATCH_ID], valid_through_ms)


def ownership(topic_id: UUID, topic: str, kind: str, rows: str) -> dict[str, str]:
    """Properties that bind a table to one topic, and to what it is, for ever."""
    return {TOPIC_ID: str(topic_id), TOPIC: topic, KIND: kind, ROWS: rows, LAYOUT: LAYOUT_VERSION}


def merged(before: Mapping[int, int], after: Mapping[int, int]) -> dict[int, int]:
    """`before` with `after` on top. Asserts that no partition goes back."""
    for partition, next_ in after.items():
        assert next_ >= before.get(partition, 0), f"partition {partition} would go back to {next_}"
    return {**before, **after}


def goes_back(known: Mapping[int, int], now: Mapping[int, int]) -> str:
    """'' where `now` is at or past `known` everywhere, else words for the first partition that isn't."""
    for partition in sorted(known):
        if now.get(partition, 0) < known[partition]:
            return f"partition {partition} stands at {now.get(partition, 0)}, was at {known[partition]}"
    return ""
