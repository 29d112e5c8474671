"""Reads Iceberg metadata files: from a local folder directly, from anywhere else through what the caller brings.

`ReadBytes` is the seam to the object port, which this package may not import. It raises FileNotFoundError where the
location is gone and OSError where the store can't answer now.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

ReadBytes = Callable[[str], Awaitable[bytes]]
"""location -> bytes."""

METADATA_BYTES_MAX = 64 * 1024 * 1024
"""Most bytes of one metadata file, decompressed. Ours stay below 1 MiB because snapshots are expired early."""

_GZIP = 16 + zlib.MAX_WBITS


class MetadataUnreadable(Exception):
    """A metadata file is not what it should be (too large, broken compression)."""


async def read_local(location: str) -> bytes:
    """Bytes of a `file://` location. FileNotFoundError, OSError."""
    return await asyncio.to_thread(Path(unquote(urlsplit(location).path)).read_bytes)


def reading(read_elsewhere: ReadBytes | None) -> ReadBytes:
    """Read `file:` locations here and all others with `read_elsewhere`."""

    async def read(location: str) -> bytes:
        if location.startswith("file:") or location.startswith("/"):
            return await read_local(location)
        if read_elsewhere is None:
            raise OSError(f"no reader for {location}: this agent has no object store")
        return await read_elsewhere(location)

    return read


def metadata_json(location: str, body: bytes) -> bytes:
    """The JSON text of a metadata file, decompressed where its name says gzip (`.gz.metadata.json`, `.metadata.json.gz`)."""
    if ".gz." in location.rsplit("/", 1)[-1] or location.endswith(".gz"):
        decompressor = zlib.decompressobj(_GZIP)
        try:
            body = decompressor.decompress(body, METADATA_BYTES_MAX + 1)
        except zlib.error as error:
            raise MetadataUnreadable(f"{location} is not gzip: {error}") from error
    if len(body) > METADATA_BYTES_MAX:
        raise MetadataUnreadable(f"{location} holds more than {METADATA_BYTES_MAX} bytes")
    return body
