"""One blocking connection to a broker: frames out, frames in, and the two ways in which a broker says nothing."""

from __future__ import annotations

import socket
from enum import Enum
from struct import pack, unpack
from types import TracebackType
from typing import Any

from kio.schema.request_header.v1.header import RequestHeader as HeaderV1
from kio.schema.request_header.v2.header import RequestHeader as HeaderV2
from kio.serial import entity_reader

from schemas.kafka.api_keys import ApiKey
from tests.kio_entities import entity_class, to_bytes
from tests.parity.plain import plain

PATIENCE_S = 15.0


class Nothing(Enum):
    """What came instead of an answer."""

    CLOSED = "the connection was closed"
    SILENT = "nothing came"


def request_bytes(api: ApiKey, version: int, correlation_id: int, body: bytes) -> bytes:
    """A frame without its length."""
    make: Any = HeaderV2 if version >= api.flexible_from else HeaderV1
    header = make(
        request_api_key=int(api), request_api_version=version, correlation_id=correlation_id, client_id="parity"
    )
    return to_bytes(header) + body


def read_answer(api: ApiKey, version: int, frame: bytes) -> tuple[int, Any]:
    """(correlation id, plain response); every byte has to be used."""
    cls = entity_class(api.name.lower(), version, "response")
    header, at = entity_reader(cls.__header_schema__)(frame, 0)
    entity, size = entity_reader(cls)(frame, at)
    assert at + size == len(frame), f"{len(frame)} bytes, {at} and {size} of them read"
    return int(header.correlation_id), plain(entity)


class Wire:
    """A connection. Closed by `with`."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close; never fails."""
        self._socket.close()

    def send(self, *frames: bytes) -> None:
        """All frames in one write, each with its length."""
        self._socket.sendall(b"".join(pack(">i", len(frame)) + frame for frame in frames))

    def receive(self, patience_s: float = PATIENCE_S) -> bytes | Nothing:
        """The next frame, or what came instead of it."""
        self._socket.settimeout(patience_s)
        try:
            head = self._exactly(4)
            if head is None:
                return Nothing.CLOSED
            return self._exactly(unpack(">i", head)[0]) or Nothing.CLOSED
        except TimeoutError:
            return Nothing.SILENT
        except ConnectionError:
            return Nothing.CLOSED

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            chunk = self._socket.recv(count - len(data))
            if not chunk:
                return None
            data += chunk
        return data
