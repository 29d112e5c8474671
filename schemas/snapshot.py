"""A snapshot of the metadata as one object: JSON lines in compressed blocks, with a version and a checksum.

`NEVESNP1` · blocks of `raw length u32 · length u32 · zstd bytes`, each one JSON document · an empty block · CRC-32C u32 of
everything before; big endian. The first document is the head (`SnapshotHead`), then each table: {"table", "columns",
"blobs"}, followed by arrays of at most some thousand rows. Blobs are base64.

Pure. Owns: no length is believed before it is checked against what is there and a limit.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct
from typing import Any

from crc32c import crc32c

from schemas.kafka.compression import CompressionError, compress, decompress

FORMAT = 1
MAGIC = b"NEVESNP1"
DOCUMENT_BYTES_MAX = 256 * 1024 * 1024
_ZSTD = 4
_BLOCK = Struct(">II")
_CRC = Struct(">I")


class SnapshotError(ValueError):
    """Stored bytes are no snapshot that this program can read; the message says why."""


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """Whose metadata it is, when (Unix ms by the database's clock: everything committed before is in it), of which schema."""

    cluster_id: str
    taken_ms: int
    schema_version: int


@dataclass(slots=True)
class Table:
    """Some or all rows of one table."""

    name: str
    columns: list[str]
    rows: list[list[Any]] = field(default_factory=list)


class SnapshotWriter:
    """Gathers compressed blocks. `digest` is of the tables alone, so that two snapshots of the same rows have the same."""

    def __init__(self, head: SnapshotHead) -> None:
        self._parts: list[bytes] = [MAGIC]
        self._digest = sha256()
        self._blobs: tuple[int, ...] = ()
        self.rows = 0
        self._document(
            {
                "format": FORMAT,
                "cluster_id": head.cluster_id,
                "taken_ms": head.taken_ms,
                "schema_version": head.schema_version,
            },
            digested=False,
        )

    def table(self, name: str, columns: Sequence[str], blobs: Sequence[int]) -> None:
        """The rows that follow are of this table; `blobs` are positions of columns that hold bytes."""
        self._blobs = tuple(blobs)
        self._document({"table": name, "columns": list(columns), "blobs": list(blobs)})

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Some rows of the table."""
        plain = [list(row) for row in rows]
        for row in plain:
            for at in self._blobs:
                row[at] = None if row[at] is None else b64encode(bytes(row[at])).decode()
        self.rows += len(plain)
        self._document(plain)

    @property
    def digest(self) -> str:
        """Of everything but the head."""
        return self._digest.hexdigest()

    def finish(self) -> list[bytes]:
        """The object, in parts."""
        self._parts.append(_BLOCK.pack(0, 0))
        crc = 0
        for part in self._parts:
            crc = crc32c(part, crc)
        return [*self._parts, _CRC.pack(crc)]

    def _document(self, document: Any, *, digested: bool = True) -> None:
        raw = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
        if digested:
            self._digest.update(raw)
        packed = bytes(compress(_ZSTD, raw))
        self._parts += [_BLOCK.pack(len(raw), len(packed)), packed]


def read_snapshot(data: bytes | bytearray | memoryview) -> tuple[SnapshotHead, Iterator[Table]]:
    """The head, and the tables in pieces. Raises SnapshotError, at once where the checksum is wrong."""
    view = memoryview(data)
    if bytes(view[: len(MAGIC)]) != MAGIC:
        raise SnapshotError(f"not a snapshot: it begins with {bytes(view[: len(MAGIC)])!r}, not {MAGIC!r}")
    if (
        len(view) < len(MAGIC) + _BLOCK.size + _CRC.size
        or crc32c(view[: -_CRC.size]) != _CRC.unpack(view[-_CRC.size :])[0]
    ):
        raise SnapshotError("the snapshot's CRC-32C is wrong: it is damaged or cut off")
    documents = _documents(view[len(MAGIC) : -_CRC.size])
    head: Any = next(documents, None)
    try:
        if head["format"] != FORMAT:
            raise SnapshotError(
                f"snapshot format {head['format']}, this Neve knows {FORMAT}: use the version that wrote it"
            )
        found = SnapshotHead(str(head["cluster_id"]), int(head["taken_ms"]), int(head["schema_version"]))
    except (TypeError, KeyError, ValueError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"the snapshot's head can't be read: {error}") from error
    return found, _tables(documents)


def _documents(view: memoryview) -> Iterator[Any]:
    at = 0
    while True:
        if at + _BLOCK.size > len(view):
            raise SnapshotError("the snapshot ends inside a block")
        raw_bytes, packed_bytes = _BLOCK.unpack_from(view, at)
        at += _BLOCK.size
        if not packed_bytes:
            return
        if packed_bytes > len(view) - at or raw_bytes > DOCUMENT_BYTES_MAX:
            raise SnapshotError(f"a block of {packed_bytes} bytes doesn't fit the {len(view) - at} that are left")
        try:
            raw = decompress(_ZSTD, view[at : at + packed_bytes], raw_bytes)
            yield json.loads(bytes(raw))
        except (CompressionError, ValueError) as error:
            raise SnapshotError(f"a block of the snapshot can't be read: {error}") from error
        at += packed_bytes


def _tables(documents: Iterator[Any]) -> Iterator[Table]:
    name, columns, blobs = "", [], []
    for document in documents:
        if isinstance(document, dict):
            name, columns, blobs = document["table"], document["columns"], document["blobs"]
            yield Table(name, columns)
            continue
        for row in document:
            for at in blobs:
                row[at] = None if row[at] is None else b64decode(row[at])
        yield Table(name, columns, document)
