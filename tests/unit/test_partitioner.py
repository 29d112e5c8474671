"""The partitioner against Kafka's own published test vectors (UtilsTest.testMurmur2)."""

from __future__ import annotations

import pytest

from schemas.kafka.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_equals_kafkas_vectors(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


def test_partitions_are_within_range() -> None:
    assert {partition_of(str(n).encode(), 3) for n in range(100)} == {0, 1, 2}
