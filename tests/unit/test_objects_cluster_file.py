"""Bucket and database belong together or nothing starts; a crash in between is completed; two first starts give one id."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from broker.clock import SystemClock
from broker.objects.cluster_file import (
    CLUSTER_FILE,
    Adopt,
    ClusterFile,
    Create,
    Refuse,
    Start,
    agree,
    claim,
    decode,
    encode,
    read,
)
from broker.objects.memory import MemoryStore
from broker.objects.port import Corrupt, ObjectStore, Refused
from broker.objects.retrying import RetryingStore, RetryLimits


def store() -> ObjectStore:
    return RetryingStore(MemoryStore(lambda: 0), SystemClock(), random.Random(1), RetryLimits(backoff_ms=1))


def test_every_case_of_the_agreement() -> None:
    assert agree(None, None, database_holds_objects=False) == Create()
    assert agree("one", "one", database_holds_objects=True) == Start("one")
    assert agree("one", "one", database_holds_objects=False) == Start("one")
    assert agree(None, "one", database_holds_objects=False) == Adopt("one")
    for bucket, database, holds in (("one", None, False), (None, "one", True), ("one", "two", False), ("one", "two", True)):  # fmt: skip
        refused = agree(bucket, database, database_holds_objects=holds)
        assert isinstance(refused, Refuse)
        assert "Nothing was changed" in refused.message
        assert all(found in refused.message for found in (bucket, database) if found)


def test_a_bucket_beside_an_empty_database_names_the_way_back() -> None:
    refused = agree("one", None, database_holds_objects=False)
    assert isinstance(refused, Refuse)
    assert "neve restore" in refused.message


def test_only_equal_ids_ever_start() -> None:
    for bucket, database, holds in itertools.product((None, "a", "b"), (None, "a", "b"), (False, True)):
        decision = agree(bucket, database, database_holds_objects=holds)
        assert isinstance(decision, Start) == (bucket is not None and bucket == database)


async def test_a_claim_stands_and_is_its_own_on_the_second_try() -> None:
    objects = store()
    assert await read(objects) is None
    assert await claim(objects, "mine", 5) == "mine"
    assert await claim(objects, "mine", 5) == "mine"
    assert await claim(objects, "mine", 6) == "mine"
    assert await claim(objects, "other", 7) == "mine"
    assert await read(objects) == ClusterFile("mine", 1, 5)


async def test_of_many_claims_at_once_all_see_the_same_winner() -> None:
    objects = store()
    answers = await asyncio.gather(*(claim(objects, f"c{n}", n) for n in range(20)))
    assert len(set(answers)) == 1
    assert (await read(objects)).cluster_id == answers[0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b"\xff",
        b'{"cluster_id":"a/b","format":1,"created_ms":1}',
        b'{"cluster_id":"","format":1,"created_ms":1}',
        b'{"cluster_id":7,"format":1,"created_ms":1}',
        b'{"cluster_id":"a","format":true,"created_ms":1}',
        b'{"cluster_id":"a","format":"1","created_ms":1}',
        b'{"cluster_id":"a","format":1,"created_ms":null}',
    ],
)
def test_other_content_is_corrupt(body: bytes) -> None:
    with pytest.raises(Corrupt):
        decode(body)


async def test_a_newer_format_is_not_touched() -> None:
    objects = store()
    await objects.put(CLUSTER_FILE, [encode(ClusterFile("a", 2, 1))])
    with pytest.raises(Refused, match="upgrade"):
        await claim(objects, "a", 1)
    with pytest.raises(ValueError, match="no cluster id"):
        await claim(objects, "a/b", 1)
