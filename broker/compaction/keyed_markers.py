"""Transactions as a pass over a log meets them: which batches were aborted, and when a marker isn't needed any more. Pure.

A marker may go only when a pass has met no data of its transaction in front of it: until then a reader needs it. Source:
Kafka's `CleanedTransactionMetadata`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from schemas.kafka.batch import BatchHeader

_MARKER_KEY = Struct(">hh")
ABORT, COMMIT = 0, 1


class AbortedTransaction(NamedTuple):
    """An aborted transaction: whose, and the offsets of its first record and of its marker."""

    producer_id: int
    first_offset: int
    last_offset: int


class TransactionPass:
    """The state of one pass; batches are shown to it in offset order."""

    def __init__(self, aborted: Sequence[AbortedTransaction] = ()) -> None:
        self._coming = sorted(aborted, key=lambda one: (one.first_offset, one.producer_id), reverse=True)
        self._aborted: dict[int, bool] = {}
        """producer id -> whether data of its aborted transaction was met."""
        self._committed: dict[int, None] = {}

    def copy(self) -> TransactionPass:
        """The same state, so that a part of the log can be passed again."""
        other = TransactionPass()
        other._coming = list(self._coming)
        other._aborted, other._committed = dict(self._aborted), dict(self._committed)
        return other

    def is_aborted(self, header: BatchHeader) -> bool:
        """Look at a batch of records; True where it belongs to an aborted transaction."""
        self._begin_up_to(header)
        if not header.is_transactional:
            return False
        if header.producer_id in self._aborted:
            self._aborted[header.producer_id] = True
            return True
        self._committed[header.producer_id] = None
        return False

    def is_spent(self, header: BatchHeader, key: bytes | None) -> bool:
        """Look at a control batch with its record's key (None: it holds none any more); True where nobody needs it."""
        self._begin_up_to(header)
        if key is None:
            return True
        if len(key) < _MARKER_KEY.size:
            return False
        _, kind = _MARKER_KEY.unpack_from(key)
        if kind == ABORT:
            return not self._aborted.pop(header.producer_id, False)
        if kind == COMMIT:
            met = header.producer_id in self._committed
            self._committed.pop(header.producer_id, None)
            return not met
        return False

    def _begin_up_to(self, header: BatchHeader) -> None:
        last = header.base_offset + header.last_offset_delta
        while self._coming and self._coming[-1].first_offset <= last:
            one = self._coming.pop()
            if one.last_offset >= header.base_offset:  # else it ended before this pass began
                self._aborted.setdefault(one.producer_id, False)
