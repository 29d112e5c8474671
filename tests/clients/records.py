"""The records that every client driver makes and checks alike, and what is told about them: see protocol.md.

Pure: record `index` of a set is a function of the set and the index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

NOISE_BYTES = 4099
MISMATCHES_MAX = 5
Headers = list[tuple[str, Any]]
"""Names, and bytes or None."""


def _noise() -> bytes:
    x, made = 12345, bytearray()
    for _ in range(NOISE_BYTES):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        made.append(x >> 16 & 0xFF)
    return bytes(made)


NOISE = _noise()


@dataclass(frozen=True)
class RecordSet:
    """Records by index. `size` is the least value length in bytes."""

    seed: str
    time_ms: int
    size: int = 40
    mixed: bool = True
    partitions: int = 3
    null_headers: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_noise", NOISE * (self.size // NOISE_BYTES + 2))

    def to_json(self) -> dict[str, Any]:
        """As drivers are told it."""
        return asdict(self)

    def value(self, index: int) -> bytes | None:
        """The value, or None."""
        if self.mixed and index % 10 == 7:
            return None
        start = b"%s:%d:" % (self.seed.encode(), index)
        at = index % NOISE_BYTES
        noise: bytes = self._noise  # type: ignore[attr-defined]
        return start + noise[at : at + self.size + index % 17 - len(start)]

    def key(self, index: int) -> bytes | None:
        """The key, or None."""
        return None if self.mixed and index % 10 == 3 else b"k%d" % (index % 97)

    def headers(self, index: int) -> Headers:
        """Names and values; none for most."""
        if self.mixed and index % 10 == 5:
            return [("n", b"%d" % index), ("empty", b""), ("null", None if self.null_headers else b"-")]
        return []


class Run(NamedTuple):
    """Records of one partition in a row: offsets rise by one, indexes by the set's partitions."""

    partition: int
    stint: int
    offset: int
    first: int
    """Index of the first record."""
    length: int


@dataclass
class Told:
    """What a consumer found, or a producer was acknowledged."""

    records: RecordSet
    runs: list[list[int]] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    count: int = 0
    _open: dict[int, list[int]] = field(default_factory=dict)

    def place(self, partition: int, stint: int, offset: int, index: int) -> None:
        """Record `index` is at `offset`."""
        self.count += 1
        run = self._open.get(partition)
        if (
            run is not None
            and run[1:3] == [stint, offset - run[4]]
            and index == run[3] + run[4] * self.records.partitions
        ):
            run[4] += 1
            return
        run = self._open[partition] = [partition, stint, offset, index, 1]
        self.runs.append(run)

    def read(
        self,
        partition: int,
        stint: int,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> None:
        """A record came; hold it against the one that its timestamp says."""
        records = self.records
        index = timestamp_ms - records.time_ms
        if (
            key != records.key(index)
            or value != records.value(index)
            or ((headers or records.mixed) and headers != records.headers(index))
            or partition != index % records.partitions
        ) and len(self.mismatches) < MISMATCHES_MAX:
            shown = f"{key!r} {value[:60] if value else value!r} {headers!r}"
            self.mismatches.append(f"partition {partition} offset {offset} isn't record {index}: {shown}")
        self.place(partition, stint, offset, index)

    def to_json(self) -> dict[str, Any]:
        """The answer of `read` and `leave`; begins anew."""
        told = {"runs": self.runs, "mismatches": self.mismatches, "count": self.count}
        self.runs, self.mismatches, self.count, self._open = [], [], 0, {}
        return told


def set_of(request: Mapping[str, Any]) -> RecordSet:
    """The set of a request."""
    return RecordSet(**request["set"])


def expand(run: Run, partitions: int) -> Iterator[tuple[int, int]]:
    """(offset, index) of each record of a run."""
    for at in range(run.length):
        yield run.offset + at, run.first + at * partitions
