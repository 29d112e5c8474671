"""Starts the six client drivers and speaks protocol.md with them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.records import RecordSet
from tests.counterparts import CounterpartFailed, compile_java, franz_driver, kafka_jars, kafkajs_modules, stop

CLIENTS = ("confluent-kafka", "kafka-python", "aiokafka", "Java", "kafkajs", "franz-go")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FOLDER = Path(__file__).parent


class ClientRefused(Exception):
    """A client library's own error."""

    def __init__(self, client: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{client}: {error['name']} ({error['code']}): {error['text']}")
        self.name: str = error["name"]
        self.code: int | None = error["code"]


@dataclass(frozen=True)
class Command:
    """How a driver process is started."""

    argv: list[str]
    environment: Mapping[str, str]


def command(client: str, folder: Path) -> Command:
    """How to start a client's driver; builds what has to be built into `folder`. Raises CounterpartMissing."""
    if client == "Java":
        jars = kafka_jars()
        compile_java(jars, FOLDER / "java" / "ClientDriver.java", folder)
        classpath = f"{folder}:{jars.classpath}"
        light = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx384m"]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
        (folder / "log4j2.yaml").write_text("Configuration: {Loggers: {Root: {level: OFF}}}\n")
        logging = f"-Dlog4j2.configurationFile={folder}/log4j2.yaml"
        return Command([str(jars.java), *light, quiet, logging, "-cp", classpath, "ClientDriver"], {})
    if client == "kafkajs":
        node, modules = kafkajs_modules()
        return Command([str(node), str(FOLDER / "kafkajs" / "driver.js")], {"NODE_PATH": str(modules)})
    if client == "franz-go":
        return Command([str(franz_driver())], {})
    module = client.partition("-kafka")[0].replace("-", "_")
    return Command([sys.executable, "-m", f"tests.clients.{module}_driver"], {"PYTHONSAFEPATH": ""})


class Driver:
    """One client library in a process of its own. Calls may come from several threads; they wait for each other."""

    def __init__(self, client: str, child: subprocess.Popen[bytes], log: Path) -> None:
        self.client = client
        self.version = ""
        self._child = child
        self._log = log
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return self.client

    def call(self, do: str, **fields: Any) -> Any:
        """One request. Raises ClientRefused with the library's error."""
        told = {name: each.to_json() if isinstance(each, RecordSet) else each for name, each in fields.items()}
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with self._lock:
            try:
                self._child.stdin.write(json.dumps({"do": do, **told}).encode() + b"\n")
                self._child.stdin.flush()
                line = self._child.stdout.readline()
            except OSError:
                line = b""
        if not line:
            raise CounterpartFailed(
                f"{self.client}'s driver went at {do}: {self._log.read_text(errors='replace')[-2000:]}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise ClientRefused(self.client, answer["error"])
        return answer["ok"]

    def admin(self, call: str, at: str, **fields: Any) -> Any:
        """An administration call."""
        return self.call("admin", call=call, at=at, **fields)


@contextlib.contextmanager
def running(client: str, folder: Path) -> Iterator[Driver]:
    """A driver until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    start = command(client, folder)
    log = folder / "driver.log"
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"} | dict(start.environment)
    with log.open("wb") as errors:
        child = subprocess.Popen(
            start.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            cwd=FOLDER.parents[1],
        )  # fmt: skip
    try:
        driver = Driver(client, child, log)
        driver.version = driver.call("version")["version"]
        yield driver
    finally:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2)
        stop(child)
        child.stdout.close()
