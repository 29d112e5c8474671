"""What `neve fsck` can find: every kind of damage by name, what it means, and what to do about it. Pure.

Damage makes a cluster not clean. Litter costs space and nothing else. A kind that names a repair is put right by `--repair`,
because that can't make anything worse; whatever else is found, a person decides.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

SHOWN_MAX = 1_000
"""Findings of one kind that are kept; all are counted."""


class KindFacts(NamedTuple):
    """One kind of finding. `repair` is empty where fsck touches nothing."""

    severity: Literal["damage", "litter"]
    means: str
    advice: str
    repair: str = ""


RESTORE_OBJECT = (
    "bring the object back from a backup or an older version of it in the bucket; else its records are lost"
)
METADATA_WRONG = "the metadata was changed by hand or by a bug: keep deletion off, and restore the database from a backup or with `neve restore`"
TABLE_FILE = "bring the file back from a backup or an older version of it in the bucket, or have the table made anew"

KINDS: dict[str, KindFacts] = {
    "object-missing": KindFacts("damage", "a segment that extents refer to is not in the store", RESTORE_OBJECT),
    "object-size": KindFacts("damage", "a segment has another size than its row says", RESTORE_OBJECT),
    "range-outside": KindFacts("damage", "an extent reaches beyond its object's end", METADATA_WRONG),
    "ranges-overlap": KindFacts("damage", "bytes of an object are referred to twice", METADATA_WRONG),
    "extent-without-object": KindFacts("damage", "an extent refers to an object that has no row", METADATA_WRONG),
    "object-condemned": KindFacts("damage", "an object with extents is condemned to be deleted", METADATA_WRONG),
    "count-wrong": KindFacts(
        "damage", "an object's row counts other extents than there are", "run `neve fsck --repair`", "counted anew"
    ),
    "name-twice": KindFacts("damage", "two rows name the same object", METADATA_WRONG),
    "extent-empty": KindFacts("damage", "an extent covers no offsets or no bytes", METADATA_WRONG),
    "extent-gap": KindFacts("damage", "offsets between log start and high watermark lie in no extent", METADATA_WRONG),
    "extent-overlap": KindFacts("damage", "offsets lie in two extents", METADATA_WRONG),
    "extent-beyond": KindFacts("damage", "an extent reaches beyond the high watermark", METADATA_WRONG),
    "bounds-wrong": KindFacts("damage", "log start and high watermark contradict each other", METADATA_WRONG),
    "shard-missing": KindFacts("damage", "a live topic lacks the row of a partition", METADATA_WRONG),
    "deleted-topic-rows": KindFacts(
        "damage",
        "rows of a deleted topic's partition that no job will look at again",
        "run `neve fsck --repair`",
        "dropped, their objects counted anew",
    ),
    "unknown-topic-rows": KindFacts("damage", "rows of a partition whose topic has no row", METADATA_WRONG),
    "counter-behind": KindFacts(
        "damage", "a counter would issue a number again", "run `neve fsck --repair`", "raised above every number in use"
    ),
    "database-behind": KindFacts(
        "damage",
        "the bucket holds segments of agent epochs that this database has not issued",
        "this is an old copy of the database or another cluster's: name the right one, or rebuild it with `neve restore`",
    ),
    "header-damage": KindFacts("damage", "a segment's header can't be read or its checksum is wrong", RESTORE_OBJECT),
    "run-damage": KindFacts("damage", "the checksum of a partition's bytes in a segment is wrong", RESTORE_OBJECT),
    "extent-misplaced": KindFacts("damage", "an extent is not made of whole batches of its partition", METADATA_WRONG),
    "orphan": KindFacts(
        "litter",
        "a segment that was never committed, and can't be any more",
        "the deletion job frees it; `neve fsck --repair` condemns it now",
        "condemned: deleted after object_delete_delay_ms",
    ),
    "orphans-too-many": KindFacts(
        "damage",
        "so many of an agent epoch's segments are in no row that the metadata is more likely wrong than the store",
        "make sure that this is the right database; then raise orphans_max or orphan_share_max and run `neve fsck --repair`",
    ),
    "object-twice": KindFacts(
        "litter",
        "a second object under the number of a committed one",
        "delete it by hand once you know whence it came",
    ),
    "foreign-object": KindFacts(
        "litter", "an object below segments/ that Neve didn't name", "move it away: nothing will ever read or delete it"
    ),
    "table-missing": KindFacts(
        "damage",
        "a table that had rows is not in the catalog",
        "rename it back, restore the catalog, or set the topic's iceberg.mode to disabled and then back to begin a new one",
    ),
    "table-unreadable": KindFacts("damage", "a table's metadata can't be read", TABLE_FILE),
    "table-foreign": KindFacts(
        "damage", "a table belongs to another topic", "rename it away: a table belongs to one topic for ever"
    ),
    "table-file-missing": KindFacts("damage", "a file of a table's current snapshot is not in the store", TABLE_FILE),
    "table-file-size": KindFacts("damage", "a file of a table has another size than its manifest says", TABLE_FILE),
    "table-ahead": KindFacts(
        "damage",
        "a table holds offsets beyond the log's high watermark",
        "the log is older than the table (an old copy of the database): rebuild it with `neve restore`",
    ),
    "table-behind": KindFacts(
        "damage",
        "a table ends before what was committed to it",
        "roll it forward again, or set the topic's iceberg.mode to disabled and then back to begin a new one",
    ),
    "ledger-hole": KindFacts("damage", "offsets of a table's ledger lie in no file", METADATA_WRONG),
    "ledger-overlap": KindFacts("damage", "offsets of a table's ledger lie in two files", METADATA_WRONG),
    "table-orphan": KindFacts(
        "litter", "a file below a table's folder that its current snapshots don't need", "maintenance frees it"
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: str
    where: str
    detail: str
    repaired: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = KINDS[self.kind]
        return {
            "kind": self.kind,
            "severity": facts.severity,
            "where": self.where,
            "detail": self.detail,
            "repaired": self.repaired,
            "advice": facts.repair if self.repaired else facts.advice,
        }


@dataclass(slots=True)
class Report:
    """What was looked at and what was found. At most SHOWN_MAX findings of a kind are kept, all are counted."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    repaired: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """What was left out or is worth knowing, in words."""

    def add(self, kind: str, where: str, detail: str, *, repaired: bool = False) -> None:
        """Note a finding."""
        assert kind in KINDS
        self.counts[kind] += 1
        if repaired:
            self.repaired[kind] += 1
        if self.counts[kind] <= SHOWN_MAX:
            self.findings.append(Finding(kind, where, detail, repaired))

    def join(self, other: Report) -> None:
        """Take in what another part found."""
        self.findings += other.findings
        self.counts += other.counts
        self.repaired += other.repaired
        self.checked += other.checked
        self.notes += other.notes

    @property
    def clean(self) -> bool:
        """True where no damage is left; litter doesn't count."""
        return all(KINDS[kind].severity == "litter" for kind in self.counts if self.counts[kind] > self.repaired[kind])

    def as_dict(self) -> dict[str, Any]:
        """The whole report for JSON."""
        return {
            "clean": self.clean,
            "counts": {kind: self.counts[kind] for kind in KINDS if self.counts[kind]},
            "repaired": {kind: self.repaired[kind] for kind in KINDS if self.repaired[kind]},
            "checked": dict(sorted(self.checked.items())),
            "notes": self.notes,
            "findings": [finding.as_dict() for finding in self.findings],
        }
