"""Records what real clients send: a proxy in front of an agent keeps the largest frame up to 4 KiB of each API and version per client.

Usage: python -m tests.fuzz.record. Writes tests/fuzz/recorded/<client>-<api key>-v<version>.bin (frames without their length).
The recordings are committed; they are made again when a client is upgraded.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
import threading
from pathlib import Path

from neve.kafka_client import KafkaClient
from neve.topic_admin import create_topic
from tests.agents import agent_on_folder, started
from tests.counterparts import free_port
from tests.integration.clients import KINDS

FOLDER = Path(__file__).parent / "recorded"
FRAME_BYTES_MAX = 4096
VALUES = [f"value {n}".encode() for n in range(5)]


class Recorder:
    """A TCP proxy that cuts the client's bytes into frames."""

    def __init__(self, port: int, target: str) -> None:
        self._port = port
        self._target = target
        self.frames: dict[tuple[int, int], bytes] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Listen, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self._port))
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        copying = asyncio.ensure_future(self._copy(there, writer))
        try:
            while True:
                length = await reader.readexactly(4)
                frame = await reader.readexactly(struct.unpack(">i", length)[0])
                key: tuple[int, int] = struct.unpack_from(">hh", frame)
                if len(frame) <= FRAME_BYTES_MAX and len(frame) > len(self.frames.get(key, b"")):
                    self.frames[key] = frame
                back.write(length + frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            back.close()
            copying.cancel()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


async def create(bootstrap: str, topic: str) -> None:
    """A topic with one partition."""
    async with await KafkaClient.connect(bootstrap) as admin:
        await create_topic(admin, topic, 1, {})


def main() -> None:
    """Run every client once."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for kind in KINDS:
            folder = Path(scratch) / kind.name
            folder.mkdir()
            agent = agent_on_folder(folder, folder / "data")
            port = free_port()
            agent.arguments += ["--advertise", f"127.0.0.1:{port}"]
            with started(agent):
                recorder = Recorder(port, agent.kafka)
                recorder.start()
                bootstrap = f"127.0.0.1:{port}"
                asyncio.run(create(agent.kafka, "recorded"))
                client = kind()
                for codec in ("none", "lz4"):
                    client.produce(bootstrap, "recorded", codec, VALUES)
                assert client.consume(bootstrap, "recorded", 2 * len(VALUES)) == VALUES * 2
                recorder.stop()
            for (api, version), frame in sorted(recorder.frames.items()):
                (FOLDER / f"{kind.name}-{api}-v{version}.bin").write_bytes(frame)
                print(f"{kind.name}: api {api} v{version}, {len(frame)} bytes")


if __name__ == "__main__":
    main()
