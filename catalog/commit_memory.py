"""What this process's last commit left in the database, for the next one: good only while nobody has written since.

Reading back the rows that the same process has just written is a third of a small commit on SQLite. The database tells
(`Transaction.version`) whether anybody at all has written a row in between; then, and where it can't tell, everything is
read again. Invariant: `rows` answers for a transaction with exactly what that transaction would read.

Safe beside a commit that runs in a thread: `learn` is called after its commit, before which no other one can have begun
with the same version, so a transaction that was given rows is over before they change.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from catalog.sequence import ProducerKey, ProducerState, ShardKey, ShardState

EpochRow = tuple[int, int, int]
"""(issued_ms, lease_until_ms, retired)."""
ROWS_MAX = 50_000


@dataclass(slots=True)
class CommitRows:
    """Rows that a commit read or wrote."""

    epochs: dict[int, EpochRow] = field(default_factory=dict)
    shards: dict[ShardKey, ShardState] = field(default_factory=dict)
    producers: dict[ProducerKey, ProducerState] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.epochs) + len(self.shards) + len(self.producers)

    def update(self, other: CommitRows) -> None:
        """Take over newer rows."""
        self.epochs.update(other.epochs)
        self.shards.update(other.shards)
        self.producers.update(other.producers)


class CommitMemory:
    """The rows of this process's last commits; at most about ROWS_MAX."""

    def __init__(self) -> None:
        self._version: Hashable | None = None
        self._rows = CommitRows()

    def rows(self, version: Hashable | None) -> CommitRows:
        """What is known for a transaction that begins at `version`; nothing where somebody has written since."""
        return self._rows if version is not None and version == self._version else CommitRows()

    def learn(self, before: CommitRows, version: Hashable | None, after: CommitRows) -> None:
        """A commit is certain: it was given `before`, ended at `version` and leaves `after`. Never call it for any other."""
        if before is not self._rows or len(self._rows) > ROWS_MAX:
            self._rows = CommitRows()
        self._rows.update(after)
        self._version = version
