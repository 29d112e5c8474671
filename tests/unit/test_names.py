"""Names of topics and tables."""

from __future__ import annotations

from uuid import UUID

import pytest

from schemas.names import (
    InvalidName,
    check_topic_name,
    declared_table,
    default_table,
    is_reserved,
    tables_of,
    with_suffix,
)


@pytest.mark.parametrize("name", ["a", "A.b-c_9", "x" * 249, "...", "__consumer_offsets"])
def test_topic_names_kafka_takes(name: str) -> None:
    check_topic_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 250, "a b", "a/b", "é", "a\n", "a\x00"])
def test_topic_names_kafka_refuses(name: str) -> None:
    with pytest.raises(InvalidName):
        check_topic_name(name)


def test_tables_of_a_topic() -> None:
    table = default_table("a.b-c")
    assert table == "topics.a_b_c"
    assert tables_of(table) == {"main": table, "dlq": f"{table}__dlq", "history": f"{table}__history"}
    assert with_suffix(table, UUID(int=0xABCDEF12 << 96)) == "topics.a_b_c_abcdef12"


def test_declared_tables() -> None:
    assert declared_table("events") == "topics.events"
    assert declared_table("lake.sub.events") == "lake.sub.events"
    for wrong in ("", "files", "lake.Files", "a-b", "a.", ".a", "a\n", "a;drop"):
        with pytest.raises(InvalidName):
            declared_table(wrong)


def test_names_kept_by_iceberg() -> None:
    assert is_reserved("topics.Snapshots")
    assert not is_reserved("files.topics")
