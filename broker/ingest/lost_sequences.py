"""Which idempotent batches were failed, so that nothing behind them on the same connection slips in before they come again.

A producer pipelines: when a batch fails, later ones may already be on the wire. Where the shard knows the producer, the
sequencer refuses them as out of order. Where it doesn't know it yet it has to accept any sequence (KIP-360), and the
failed first batch could never be stored any more: its producer would be told OUT_OF_ORDER_SEQUENCE_NUMBER for ever.

Pure. Owns: after a failed batch, a connection's next accepted batch of that producer and shard is that very batch.
Bounded by `entries_max`; the oldest entries leave first (a client that reconnected has no use for them).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.services import Append

Line = tuple[int, int, int, int, int]
"""(connection, topic, shard, producer id, producer epoch)."""


class LostSequences:
    """The first sequence each line of batches lost and hasn't sent again."""

    __slots__ = ("_entries_max", "_lost")

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._lost: dict[Line, int] = {}

    def __len__(self) -> int:
        return len(self._lost)

    def note(self, items: Iterable[Append]) -> None:
        """These batches were failed, oldest first."""
        for item in items:
            if item.header.producer_id >= 0:
                self._lost.setdefault(_line(item), item.header.base_sequence)
        while len(self._lost) > self._entries_max:
            del self._lost[next(iter(self._lost))]

    def admit(self, items: Sequence[Append]) -> tuple[Sequence[Append], list[Append]]:
        """(batches to take over, batches that are behind a failed one). A batch that comes again clears its line."""
        if not self._lost:
            return items, []
        taken: list[Append] = []
        behind: list[Append] = []
        for item in items:
            line = _line(item)
            lost = self._lost.get(line)
            if lost is None or lost == item.header.base_sequence:
                self._lost.pop(line, None)
                taken.append(item)
            else:
                behind.append(item)
        return taken, behind


def _line(item: Append) -> Line:
    return item.connection, item.topic, item.shard, item.header.producer_id, item.header.producer_epoch
