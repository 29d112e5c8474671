"""Objects on S3 or a store that speaks it, through obstore.

Invariants: the client library's own retries are off, because whether a write may be sent again is decided in `retrying`
alone; a put is always one request (never multipart), so that If-None-Match decides it as a whole; and every exception
of the library becomes one of the port's here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Client

from broker.objects.keys import check_key, folder_of
from broker.objects.port import Buffer, Corrupt, NeverNow, NotFound, ObjectInfo, Refused, Unavailable
from broker.objects.s3_errors import brief, failure_of, read_error, write_error

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import S3Config

LIST_PAGE = 1000
DELETE_BATCH = 1000
"""S3's bound on keys of one DeleteObjects."""
SINGLE_DELETES_MAX = 16
"""Requests at a time where a batch has to be taken apart."""
CONNECT_TIMEOUT_MS = 5_000
_FOREIGN = (BaseError, FileNotFoundError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is and how to reach it. None for credentials: the environment's, or the machine's role."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    path_style: bool = True
    unsigned_payload: bool | None = None
    timeout_ms: int = 10_000

    @property
    def plain(self) -> bool:
        """Without TLS?"""
        return self.endpoint is not None and self.endpoint.startswith("http://")


class S3Store(NeverNow):
    """The object port over one bucket (below one prefix)."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        # hashing bodies costs more than all else of a put; over TLS the transport protects them already
        unsigned = options.unsigned_payload if options.unsigned_payload is not None else not options.plain
        config: S3Config = {
            "region": options.region,
            "unsigned_payload": unsigned,
            "virtual_hosted_style_request": not options.path_style,
            "conditional_put": "etag",
        }
        if options.endpoint is not None:
            config["endpoint"] = options.endpoint
        if options.access_key_id is not None:
            config["access_key_id"] = options.access_key_id
        if options.secret_access_key is not None:
            config["secret_access_key"] = options.secret_access_key
        timeout = timedelta(milliseconds=options.timeout_ms)
        try:
            self._client = Client(
                options.bucket,
                prefix=options.prefix or None,
                config=config,
                client_options={
                    "allow_http": options.plain,
                    "timeout": timeout,
                    "connect_timeout": min(timeout, timedelta(milliseconds=CONNECT_TIMEOUT_MS)),
                },
                retry_config={"max_retries": 0},
            )
        except (BaseError, ValueError) as error:
            raise Refused(f"these S3 settings do not work: {brief(str(error))}") from None

    def __repr__(self) -> str:
        return f"S3Store({self.options!r})"

    async def put(self, key: str, parts: Sequence[Buffer], *, if_absent: bool = True) -> None:
        """See the port. Several parts are sent as they are, without being joined, in one request."""
        check_key(key)
        body = parts[0] if len(parts) == 1 else list(parts) or b""
        try:
            if if_absent:
                await obstore.put_async(self._client, key, body, mode="create", use_multipart=False)
            else:
                await obstore.put_async(self._client, key, body, use_multipart=False)
        except _FOREIGN as error:
            raise write_error(key, str(error)) from error

    async def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"no such range: start {start}, length {length}")
        check_key(key)
        if length == 0:
            await self.head(key)
            return b""
        options: GetOptions = {}
        if length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            found = await obstore.get_async(self._client, key, options=options)
            body = (await found.bytes_async()).to_bytes()
        except _FOREIGN as error:
            if options and failure_of(str(error)).status == 416:
                return b""  # the range begins at the end or behind it
            raise read_error(key, str(error)) from error
        size = found.meta["size"]
        end = size if length is None else min(size, start + length)
        if len(body) != end - start:
            raise Corrupt(f"reading {key}, {len(body)} bytes came instead of {end - start}")
        return body

    async def head(self, key: str) -> ObjectInfo:
        """See the port."""
        check_key(key)
        try:
            return _info(await obstore.head_async(self._client, key))
        except _FOREIGN as error:
            raise read_error(key, str(error)) from error

    async def delete(self, keys: Sequence[str]) -> list[str]:
        """See the port."""
        for key in keys:
            check_key(key)
        gone: list[str] = []
        for first in range(0, len(keys), DELETE_BATCH):
            gone += await self._delete_batch(keys[first : first + DELETE_BATCH])
        return gone

    async def _delete_batch(self, keys: Sequence[str]) -> Sequence[str]:
        try:
            await obstore.delete_async(self._client, list(keys))
            return keys
        except _FOREIGN as error:
            failure = failure_of(str(error))
            if len(keys) == 1 or failure.status is not None or failure.kind:
                return keys if failure.status == 404 and len(keys) == 1 else ()
        # the request went well and single keys failed; the client doesn't say which, so each is asked for alone
        room = asyncio.Semaphore(SINGLE_DELETES_MAX)

        async def alone(key: str) -> Sequence[str]:
            async with room:
                return await self._delete_batch([key])

        return [key for gone in await asyncio.gather(*map(alone, keys)) for key in gone]

    async def list(self, prefix: str) -> AsyncIterator[list[ObjectInfo]]:
        """See the port. Unavailable when the store's own order isn't by key (S3 directory buckets)."""
        folder = folder_of(prefix) or None
        last = ""
        try:
            async for page in obstore.list(self._client, folder, chunk_size=LIST_PAGE):
                infos = [_info(meta) for meta in page]
                for info in infos:
                    if info.key <= last:
                        raise Unavailable(f"the store lists {info.key!r} after {last!r}: Neve needs keys in order")
                    last = info.key
                yield infos
        except _FOREIGN as error:
            failure = read_error(prefix, str(error))
            if isinstance(failure, NotFound):
                failure = Refused(f"listing {prefix!r}: no such bucket, create it or name another")
            raise failure from error

    async def close(self) -> None:
        """The client closes its connections when it is collected."""


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], int(meta["last_modified"].timestamp() * 1000))
