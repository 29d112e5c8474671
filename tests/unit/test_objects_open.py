"""From settings to a store, without secrets in sight; metrics of what goes through."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from broker.clock import SystemClock
from broker.faults.table import FaultTable
from broker.objects.faulty import FaultyStore
from broker.objects.local import LocalStore
from broker.objects.open import bare_store, open_store
from broker.objects.port import NotFound, Refused, Unavailable
from broker.objects.s3 import S3Store
from schemas.fault_points import FaultRule
from schemas.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings(**values)


async def test_a_data_folder_keeps_objects_below_itself(tmp_path: Path) -> None:
    store = open_store(settings(data=tmp_path), SystemClock(), random.Random(1))
    await store.put("c/x", [b"1"])
    assert (tmp_path / "objects/c/x").read_bytes() == b"1"
    await store.close()


async def test_agents_alone_keep_buffers_for_reads(tmp_path: Path) -> None:
    for pooled in (True, False):
        store = bare_store(settings(data=tmp_path, local_pool_bytes_max=1000), pooled=pooled)
        assert isinstance(store, LocalStore)
        assert (store._files._reads.pool is not None) == pooled
        await store.close()


async def test_a_bucket_url_may_be_a_folder(tmp_path: Path) -> None:
    store = bare_store(settings(bucket=f"file://{tmp_path}/with%20space", data=tmp_path / "other"))
    assert isinstance(store, LocalStore)
    await store.put("x", [b"1"])
    assert (tmp_path / "with space/x").exists()
    await store.close()


async def test_a_bucket_url_of_s3_carries_every_setting() -> None:
    store = bare_store(
        settings(
            bucket="s3://lake/some/prefix/",
            s3_endpoint="https://127.0.0.1:1",
            s3_region="eu-west-1",
            s3_access_key_id="key",
            s3_secret_access_key="hidden",
            s3_path_style=False,
            s3_unsigned_payload=True,
            object_timeout_ms=123,
        )
    )
    assert isinstance(store, S3Store)
    options = store.options
    assert (options.bucket, options.prefix, options.endpoint) == ("lake", "some/prefix", "https://127.0.0.1:1")
    assert (options.region, options.path_style, options.unsigned_payload, options.timeout_ms) == ("eu-west-1", False, True, 123)  # fmt: skip
    assert (options.access_key_id, options.secret_access_key) == ("key", "hidden")


@pytest.mark.parametrize(
    "bucket", ["", "lake", "gs://b", "s3://", "file://relative", "s3://b/a/../c", "s3://k:very@b/", "s3://b?x=very"]
)
def test_other_urls_are_refused_without_repeating_secrets(bucket: str) -> None:
    with pytest.raises((Refused, ValueError)) as raised:
        bare_store(settings(bucket=bucket))
    assert "very" not in str(raised.value)


def test_no_store_at_all_says_which_flags_name_one() -> None:
    with pytest.raises(Refused, match="--data DIR"):
        bare_store(settings())


def test_no_representation_shows_the_secret() -> None:
    chosen = settings(bucket="s3://lake", s3_access_key_id="key", s3_secret_access_key="very hidden")
    registry = CollectorRegistry()
    assert "very hidden" not in repr(open_store(chosen, SystemClock(), random.Random(1), registry))
    assert "very hidden" not in repr(chosen)


async def test_metrics_count_each_request_with_its_outcome(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    faults = FaultTable(random.Random(1))

    def wrap(inner: Any) -> FaultyStore:
        return FaultyStore(inner, random.Random(1), faults.strike, faults.armed)

    store = open_store(settings(data=tmp_path), SystemClock(), random.Random(1), registry, wrap)
    await store.put("c/x", [b"12", b"345"])
    assert await store.get("c/x", 1, 2) == b"23"
    with pytest.raises(NotFound):
        await store.head("c/absent")
    assert len([page async for page in store.list("c")]) == 1
    faults.add(FaultRule("get_refused"))
    faults.add(FaultRule("delete_refused"))
    with pytest.raises(Unavailable):
        await store.get("c/x")
    assert await store.delete(["c/x"]) == []

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("neve_object_operations_total", operation="put", outcome="ok") == 1
    assert value("neve_object_operations_total", operation="head", outcome="not_found") == 1
    assert value("neve_object_operations_total", operation="get", outcome="unavailable") == 4
    assert value("neve_object_operations_total", operation="delete", outcome="unavailable") == 4
    assert value("neve_object_retries_total", operation="get") == 3
    assert value("neve_object_bytes_total", operation="put") == 5
    assert value("neve_object_bytes_total", operation="get") == 2
    assert value("neve_object_operation_seconds_count", operation="get") == 5
    await store.close()
