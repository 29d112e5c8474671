"""Run the HTTP port on the agent's own loop: uvicorn without its signal handlers and without its logging set-up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _QuietServer(uvicorn.Server):
    """uvicorn takes SIGINT and SIGTERM by default; the agent has its own drain. `up` is set once it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class HttpServer:
    """One HTTP listener. `start` returns the address bound."""

    def __init__(self, app: ASGIApp, *, drain_ms: int) -> None:
        self._config = uvicorn.Config(
            app,
            loop="none",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=max(1, drain_ms // 1000),
        )
        self._server = _QuietServer(self._config)
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen and serve. Raises OSError where the address is taken or not ours."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        name = listening.getsockname()
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listening]))
        up = asyncio.get_running_loop().create_task(self._server.up.wait())
        await asyncio.wait((self._task, up), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task.done():
            self._task.result()
        return str(name[0]), int(name[1])

    async def stop(self) -> None:
        """Finish what is being answered, within the drain time, and close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
            self._task = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
