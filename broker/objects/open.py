"""From settings to a ready object store with its wrappers: retries around metrics around faults (if any) around the store."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from prometheus_client import CollectorRegistry

from broker.objects.instrumented import InstrumentedStore, ObjectMetrics
from broker.objects.keys import folder_of
from broker.objects.local import LocalStore
from broker.objects.port import ObjectStore, Refused
from broker.objects.retrying import MonotonicClock, RetryingStore, RetryLimits
from broker.objects.s3 import S3Options, S3Store
from schemas.settings import Settings

OBJECTS_FOLDER = "objects"
"""Embedded mode keeps objects in DIR/objects."""


def open_store(
    settings: Settings,
    clock: MonotonicClock,
    rng: random.Random,
    registry: CollectorRegistry | None = None,
    wrap: Callable[[ObjectStore], ObjectStore] | None = None,
    *,
    pooled: bool = False,
) -> ObjectStore:
    """The store that `settings` name, with retries and, with a `registry`, metrics (once per registry).

    `wrap` goes right around the bare store: a FaultyStore, in staging and tests. `pooled` is for agents, which read much:
    see `local_pool_bytes_max`. Raises Refused, with what to change, when the settings name no store or one that can't be
    used. Nothing is connected to yet.
    """
    store = bare_store(settings, pooled=pooled)
    if wrap is not None:
        store = wrap(store)
    retried: Callable[[str], None] | None = None
    if registry is not None:
        metrics = ObjectMetrics(registry)
        store = InstrumentedStore(store, metrics, clock.monotonic)
        retried = metrics.retried
    limits = RetryLimits(
        attempts=settings.object_attempts,
        attempt_timeout_ms=settings.object_timeout_ms,
        deadline_ms=settings.commit_deadline_ms,
    )
    return RetryingStore(store, clock, rng, limits, retried=retried)


def bare_store(settings: Settings, *, pooled: bool = False) -> ObjectStore:
    """The store without wrappers."""
    pool_bytes_max = settings.local_pool_bytes_max if pooled else 0
    if settings.bucket is not None:
        return _from_url(settings.bucket, settings, pool_bytes_max)
    if settings.data is not None:
        return _local(settings.data / OBJECTS_FOLDER, settings, pool_bytes_max)
    raise Refused("no object store: name a folder with --data DIR, or a bucket with --bucket s3://BUCKET/PREFIX")


def _local(root: Path, settings: Settings, pool_bytes_max: int) -> LocalStore:
    return LocalStore(root, settings.fsync, settings.local_threads, settings.local_inline_bytes, pool_bytes_max)


def _from_url(url: str, settings: Settings, pool_bytes_max: int) -> ObjectStore:
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        # not repeated in the message: people put keys there
        raise Refused("the bucket URL holds more than bucket and prefix: write s3://BUCKET/PREFIX or file:///PATH")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return _local(Path(unquote(parts.path)), settings, pool_bytes_max)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(
            S3Options(
                bucket=parts.netloc,
                prefix=folder_of(parts.path.lstrip("/")).rstrip("/"),
                endpoint=settings.s3_endpoint,
                region=settings.s3_region,
                access_key_id=settings.s3_access_key_id,
                secret_access_key=settings.s3_secret_access_key,
                path_style=settings.s3_path_style,
                unsigned_payload=settings.s3_unsigned_payload,
                timeout_ms=settings.object_timeout_ms,
            )
        )
    raise Refused(f"{url!r} names no object store: write s3://BUCKET/PREFIX or file:///PATH")
