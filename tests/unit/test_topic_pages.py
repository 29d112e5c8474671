"""Pages of topics: whatever the limit, they tell every partition once, in order, and never go on for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.kafka.topic_pages import Cursor, InvalidCursor, first_topic, page

TOPICS = st.dictionaries(st.text("abc.", min_size=1, max_size=3), st.none() | st.integers(1, 7), max_size=8)


@given(topics=TOPICS, limit=st.integers(-1, 12))
def test_pages_tell_everything_once(topics: dict[str, int | None], limit: int) -> None:
    told: list[tuple[str, int | None]] = []
    cursor: Cursor | None = None
    for _ in range(100):
        pieces, cursor = page(topics, cursor, limit)
        shards = [shard for piece in pieces for shard in piece.shards or ()]
        assert len(shards) <= max(limit, 1)
        for piece in pieces:
            told += [(piece.topic, None)] if piece.shards is None else [(piece.topic, shard) for shard in piece.shards]
        if cursor is None:
            break
        assert pieces, "a page that tells nothing leads nowhere"
    assert cursor is None
    expected: list[tuple[str, int | None]] = []
    for name in sorted(topics):
        shards_of = topics[name]
        expected += [(name, None)] if shards_of is None else [(name, shard) for shard in range(shards_of)]
    assert told == expected


def test_a_cursor_behind_the_last_partition_tells_the_topic_without_any() -> None:
    pieces, after = page({"a": 2, "b": 1}, Cursor("a", 5), 10)
    assert [(piece.topic, list(piece.shards or ())) for piece in pieces] == [("a", []), ("b", [0])]
    assert after is None


def test_cursors_that_no_page_ended_with() -> None:
    assert first_topic(None, None) == ""
    assert first_topic(None, Cursor("gone", 3)) == "gone"
    for wanted, cursor in ((["a"], Cursor("b", 0)), (["a"], Cursor("a", -1)), (None, Cursor("a", -1))):
        with pytest.raises(InvalidCursor):
            first_topic(wanted, cursor)
