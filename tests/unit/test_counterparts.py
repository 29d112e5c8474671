"""The counterparts themselves: they start, answer, end, and a missing one says how to get it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import counterparts
from tests.counterparts import KafkaJars, PostgresServer, S3Server


def test_postgres_is_durable_and_gives_each_test_its_own_database(
    postgres_server: PostgresServer, postgres_uri: str
) -> None:
    psql = [str(counterparts._postgres_folder() / "psql"), postgres_uri, "-X", "-t", "-A", "-c"]
    shown = subprocess.run([*psql, "SHOW fsync"], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "on"
    tables = subprocess.run([*psql, "SELECT count(*) FROM pg_tables WHERE schemaname='public'"], capture_output=True, text=True, check=True, timeout=30)  # fmt: skip
    assert tables.stdout.strip() == "0"


@pytest.mark.parametrize("name", ["versitygw_server", "moto_server"])
def test_s3_servers_run(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    assert counterparts.answers_http(server.endpoint)
    assert server.create_bucket("counterparts") == "counterparts"
    os.kill(server.pid, 0)


def test_kafka_tools_run(kafka_jars: KafkaJars) -> None:
    done = subprocess.run(kafka_jars.command("org.apache.kafka.tools.TopicCommand", "--version"), capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    assert done.stdout.startswith("4.")


def test_a_missing_program_names_itself_and_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEVE_TEST_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    for variable in ("NEVE_TEST_VERSITYGW", "NEVE_TEST_KAFKA_LIBS"):
        monkeypatch.delenv(variable, raising=False)
    for look in (counterparts.versitygw_binary, counterparts.kafka_jars, counterparts.kcat_binary):
        with pytest.raises(counterparts.CounterpartMissing, match=r"missing: .*`make counterparts`"):
            look()


def test_a_child_that_dies_shows_its_log(tmp_path: Path) -> None:
    argv = ["sh", "-c", "echo the disk is full; exit 3"]
    with (
        pytest.raises(counterparts.CounterpartFailed, match="the disk is full"),
        counterparts.running("it", argv, lambda: False, tmp_path / "log"),
    ):
        pass
