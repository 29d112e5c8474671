"""What a new holder of a topic's lease makes of the ledger it finds. Pure.

The table's watermark is the truth. Ledger files at or below it have landed (their commit's answer was lost); files that go
on from it are whole and durable and only wait for their commit; anything else is given up, and its offsets are exported
again. Files of one chunk stand or fall together, because they may share data files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.exports import LedgerFile


@dataclass(frozen=True, slots=True)
class Recovered:
    """Ledger ids by what became of them, the files still waiting, and where each partition goes on."""

    landed: tuple[int, ...]
    given_up: tuple[int, ...]
    waiting: tuple[LedgerFile, ...]
    ends: Mapping[int, int]
    """Partition -> where the next ledger file begins: the watermark and what waits."""


def chunk_of(file: LedgerFile) -> str:
    """The chunk a ledger file belongs to."""
    chunk: str = json.loads(file.facts).get("chunk", "")
    return chunk


def recover(
    watermark: Mapping[int, int],
    pending: Sequence[LedgerFile],
    *,
    reusable: bool,
    floor: Mapping[int, int] | None = None,
) -> Recovered:
    """Sort out pending files of one table. `reusable` False gives up all that have not landed (latest tables: a file was
    made from the table as it was then)."""
    landed = [one.id for one in pending if one.offset_next <= watermark.get(one.shard, 0)]
    left = [one for one in pending if one.offset_next > watermark.get(one.shard, 0)]
    at = dict(watermark)
    waiting: list[LedgerFile] = []
    for chunk in _in_order(left):
        if not reusable or any(one.offset_first != at.get(one.shard, 0) for one in chunk):
            break
        waiting += chunk
        at.update({one.shard: one.offset_next for one in chunk})
    given_up = [one.id for one in left if one not in waiting]
    return Recovered(tuple(landed), tuple(given_up), tuple(waiting), at)


def _in_order(files: Sequence[LedgerFile]) -> list[list[LedgerFile]]:
    """Files by chunk, in the order the chunks were entered."""
    chunks: dict[str, list[LedgerFile]] = {}
    for one in sorted(files, key=lambda file: file.id):
        chunks.setdefault(chunk_of(one), []).append(one)
    return list(chunks.values())


def ledger_files(
    *,
    topic: int,
    kind: Any,
    chunk_id: str,
    positions: Mapping[int, int],
    ends: Mapping[int, int],
    checksums: Mapping[int, Any],
    files: Sequence[Mapping[str, Any]],
    replaced: Sequence[str],
) -> list[LedgerFile]:
    """A table's part of a chunk as ledger rows, one per partition; the first carries the data files of all of them."""
    rows: list[LedgerFile] = []
    for shard in sorted(ends):
        first, next_ = positions.get(shard, 0), ends[shard]
        if next_ <= first:
            continue
        facts: dict[str, Any] = {"chunk": chunk_id}
        if not rows:
            facts |= {"files": list(files), "replaced": list(replaced)}
        checksum = checksums.get(shard)
        rows.append(
            LedgerFile(
                topic=topic,
                kind=kind,
                shard=shard,
                offset_first=first,
                offset_next=next_,
                path=files[0]["path"] if files else "",
                bytes=0 if rows else sum(one["bytes"] for one in files),
                row_count=0 if checksum is None else checksum[0],
                checksum="0:0000000000000000" if checksum is None else str(checksum),
                facts=json.dumps(facts, separators=(",", ":")),
            )
        )
    return rows


def data_of(waiting: Sequence[LedgerFile]) -> list[Mapping[str, Any]]:
    """The data files of waiting ledger rows."""
    return [file for one in waiting for file in json.loads(one.facts).get("files", [])]
