"""Objects as their rows, their extents, the store and their own bytes show them, compared. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from broker.fsck.findings import Report
from catalog.sequence import Extent
from schemas.segment import Buffer, RunEntry, SegmentError, batches_of, parse_segment, verify_run

EpochState = Literal["live", "young", "dead", "future"]
"""`young`: retired so lately that an upload may still land; `future`: this database has not issued it."""


class ObjectFacts(NamedTuple):
    """An object's row. `condemned`: it waits to be deleted, or was."""

    object_id: int
    name: str
    bytes: int
    extents_live: int
    condemned: bool


class Listed(NamedTuple):
    """An object as the store lists it."""

    name: str
    bytes: int


class EpochCompared(NamedTuple):
    """What came of comparing one epoch's rows with its listing."""

    missing: tuple[ObjectFacts, ...]
    """Rows with extents that the listing doesn't show: to be confirmed one by one."""
    orphans: tuple[tuple[int, Listed], ...]
    """(object number, object) of what can't be committed any more."""
    in_flight: int


def number_of(epoch: int, name: str) -> int | None:
    """The object number in a segment's name, or None where the name isn't ours."""
    sequence, dash, _ = name.rpartition("/")[2].partition("-")
    if not dash or not (sequence.isascii() and sequence.isdigit()) or int(sequence) >= 2**32:
        return None
    return epoch << 32 | int(sequence)


def epoch_in(name: str, prefix: str) -> int | None:
    """The agent epoch in a name below `prefix`, or None where there is none."""
    epoch, slash, rest = name.removeprefix(prefix).partition("/")
    if not name.startswith(prefix) or not slash or not rest or not (epoch.isascii() and epoch.isdigit()):
        return None
    return int(epoch) if int(epoch) < 2**31 else None


def check_rows(objects: Sequence[ObjectFacts], extents: Sequence[Extent], report: Report) -> dict[int, int]:
    """Objects of a range of numbers with all extents that refer to that range; object number -> extents where the row's
    count is wrong."""
    by_object: dict[int, list[Extent]] = {}
    for extent in extents:
        by_object.setdefault(extent.object_id, []).append(extent)
    wrong: dict[int, int] = {}
    names: dict[str, int] = {}
    for row in objects:
        own = by_object.pop(row.object_id, [])
        if names.setdefault(row.name, row.object_id) != row.object_id:
            report.add("name-twice", row.name, f"objects {names[row.name]} and {row.object_id}")
        if row.extents_live != len(own):
            wrong[row.object_id] = len(own)
        if own and row.condemned:
            report.add("object-condemned", row.name, f"{len(own)} extents refer to it")
        _check_ranges(row, own, report)
    for object_id, own in by_object.items():
        first = own[0]
        words = (
            f"{len(own)} extents, the first of topic {first.topic} partition {first.shard} offset {first.offset_first}"
        )
        report.add("extent-without-object", f"object {object_id}", words)
    return wrong


def _check_ranges(row: ObjectFacts, extents: Iterable[Extent], report: Report) -> None:
    end = 0
    for extent in sorted(extents, key=lambda one: one.byte_first):
        last = extent.byte_first + extent.byte_length
        whose = f"topic {extent.topic} partition {extent.shard} offset {extent.offset_first}"
        if last > row.bytes or extent.byte_first < 0:
            words = f"{whose}: bytes [{extent.byte_first}, {last}) of {row.bytes}"
            report.add("range-outside", row.name, words)
        if extent.byte_first < end:
            report.add("ranges-overlap", row.name, f"{whose} begins at byte {extent.byte_first}, before {end}")
        end = max(end, last)


def check_epoch(
    epoch: int,
    state: EpochState,
    rows: Mapping[int, ObjectFacts],
    waiting: Mapping[int, None],
    listed: Sequence[Listed],
    report: Report,
) -> EpochCompared:
    """One epoch's rows (read after the listing) beside its listing. `waiting`: numbers condemned and not confirmed gone."""
    there: dict[str, int] = {}
    orphans: list[tuple[int, Listed]] = []
    in_flight = 0
    for one in listed:
        number = number_of(epoch, one.name)
        if number is None:
            report.add("foreign-object", one.name, f"{one.bytes} bytes")
            continue
        there[one.name] = one.bytes
        row = rows.get(number)
        if row is not None and row.name != one.name:
            report.add("object-twice", one.name, f"object {number} is {row.name}")
        if row is not None or number in waiting:
            continue
        if state == "future":
            report.add("database-behind", one.name, f"epoch {epoch}")
        elif state == "dead":
            orphans.append((number, one))
        else:
            in_flight += 1
    missing: list[ObjectFacts] = []
    for row in rows.values():
        if row.extents_live <= 0 or row.object_id in waiting:
            continue
        size = there.get(row.name)
        if size is None:
            missing.append(row)
        elif size != row.bytes:
            report.add("object-size", row.name, f"{size} bytes, its row says {row.bytes}")
    return EpochCompared(tuple(missing), tuple(orphans), in_flight)


def check_bytes(row: ObjectFacts, extents: Sequence[Extent], data: Buffer, report: Report) -> None:
    """A whole object: header and checksums, and every extent made of whole batches of its shard."""
    try:
        segment = parse_segment(data, len(data))
    except SegmentError as error:
        report.add("header-damage", row.name, str(error))
        return
    sound: list[RunEntry] = []
    for run in segment.runs:
        try:
            verify_run(run, data, run.byte_first)
            sound.append(run)
        except SegmentError as error:
            report.add("run-damage", row.name, str(error))
    damaged = [run for run in segment.runs if run not in sound]
    for extent in extents:
        if any(_inside(extent, run) for run in damaged):
            continue  # said already
        words = _misplaced(extent, [run for run in sound if _inside(extent, run)], data)
        if words:
            where = f"topic {extent.topic} partition {extent.shard} offset {extent.offset_first}"
            report.add("extent-misplaced", row.name, f"{where}: {words}")


def _inside(extent: Extent, run: RunEntry) -> bool:
    last = extent.byte_first + extent.byte_length
    same = (run.topic, run.shard) == (extent.topic, extent.shard)
    return same and run.byte_first <= extent.byte_first and last <= run.byte_first + run.byte_length


def _misplaced(extent: Extent, runs: Sequence[RunEntry], data: Buffer) -> str:
    """What is wrong with an extent's place in the object, in words."""
    if not runs:
        return "its bytes are not inside a run of its partition"
    run = runs[0]
    last = extent.byte_first + extent.byte_length
    edges = {run.byte_first + run.byte_length: None}
    batches = offsets = 0
    try:
        for at, header in batches_of(run, data, run.byte_first):
            edges[at] = None
            if extent.byte_first <= at < last:
                batches += 1
                offsets += header.last_offset_delta + 1
    except SegmentError as error:
        return str(error)
    if extent.byte_first not in edges or last not in edges:
        return "it cuts a batch in two"
    if batches != extent.batches:
        return f"{batches} batches, its row says {extent.batches}"
    if offsets != extent.offset_next - extent.offset_first:
        return f"{offsets} offsets, its row says {extent.offset_next - extent.offset_first}"
    return ""
