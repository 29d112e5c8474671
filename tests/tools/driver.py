"""Runs steps of a session in one JVM: see java/ToolDriver.java.

A step's tool gets the same arguments, input and files on both sides; only the broker's address differs.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.counterparts import CounterpartFailed, KafkaJars, compile_java, stop
from tests.tools.steps import TOOLS, Step

CHANGES = re.compile(r"--(create|alter|delete|add|remove)\b|\bupgrade\b|\bdowngrade\b|--application-id")
PAUSE_S = 0.05
SOURCE = Path(__file__).parent / "java" / "ToolDriver.java"
LOG4J = """Configuration:
  Appenders:
    Console: {name: E, target: SYSTEM_ERR, follow: true, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: E}}
"""


@dataclass(frozen=True, slots=True)
class Printed:
    """What one step left on the screen."""

    out: str
    err: str
    code: int
    timed_out: bool
    ms: int


@dataclass(frozen=True, slots=True)
class DriverClasses:
    """The compiled driver and what its JVM needs."""

    jars: KafkaJars
    folder: Path

    def command(self) -> list[str]:
        """The argument list of a driver's JVM."""
        light = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx384m", "-XX:-OmitStackTraceInFastThrow"]
        logging = f"-Dlog4j2.configurationFile={self.folder}/log4j2.yaml"
        classpath = f"{self.folder}:{self.jars.classpath}"
        return [str(self.jars.java), *light, logging, "-Duser.timezone=UTC", "-cp", classpath, "ToolDriver"]


def compile_driver(jars: KafkaJars, folder: Path) -> DriverClasses:
    """Compile the driver into `folder`. Raises CounterpartMissing where Java comes without its compiler."""
    compile_java(jars, SOURCE, folder)
    (folder / "log4j2.yaml").write_text(LOG4J)
    return DriverClasses(jars, folder)


class Driver:
    """One driver JVM, speaking to one broker."""

    def __init__(self, child: subprocess.Popen[bytes], bootstrap: str, files: Path, log: Path) -> None:
        self._log = log
        self._child = child
        self._bootstrap = bootstrap
        self._files = files

    def run(self, step: Step) -> Printed:
        """Run one step to its end (or to what it waits for); raises CounterpartFailed when the JVM is gone."""
        request: dict[str, Any] = {"do": step.kind, "timeout_ms": step.timeout_ms, "name": step.subject}
        if step.kind != "stop":
            request |= {
                "main": TOOLS[step.tool].main,
                "args": self._arguments(step),
                "stdin": step.stdin,
                "until": step.until,
            }
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
            answer = self._child.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            raise CounterpartFailed(f"the driver went at {step.name}: {self._log.read_text(errors='replace')[-2000:]}")
        return Printed(**json.loads(answer))

    def _arguments(self, step: Step) -> list[str]:
        words = shlex.split(step.arguments)
        if TOOLS[step.tool].connects and not any("{at}" in word for word in words) and step.connects:
            words += ["--bootstrap-server", "{at}"]
        return [word.replace("{at}", self._bootstrap).replace("{files}", str(self._files)) for word in words]


@contextlib.contextmanager
def driver(classes: DriverClasses, bootstrap: str, files: Path, log: Path) -> Iterator[Driver]:
    """A driver JVM until the context ends."""
    with log.open("wb") as errors:
        child = subprocess.Popen(classes.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield Driver(child, bootstrap, files, log)
    finally:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        stop(child)
        child.stdout.close()


def write_files(files: dict[str, str], folder: Path) -> None:
    """Put the files that steps name into `folder`."""
    for name, content in files.items():
        (folder / name).write_text(content)


def play(runner: Driver, steps: Sequence[Step]) -> dict[str, Printed]:
    """Run all steps in order. After each one that changes something there is a pause as of a person who types.

    Kafka answers a change when its controller has it; the broker that the next step asks learns of it a moment later.
    """
    printed = {}
    for step in steps:
        printed[step.name] = runner.run(step)
        if CHANGES.search(step.arguments):
            time.sleep(PAUSE_S)
    return printed
