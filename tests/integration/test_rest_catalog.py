"""The read-only REST catalog against its real clients: DuckDB and pyiceberg, on a local folder and on S3 with PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests
import uvicorn
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from starlette.applications import Starlette
from starlette.routing import Mount

from catalog.iceberg.rest_app import rest_app
from catalog.iceberg.rows import CatalogRows, open_rows
from catalog.iceberg.sql_catalog import catalog_of
from catalog.iceberg.warehouse import Warehouse, warehouse_of
from lakehouse.commit import Change, Result, TableCommitter
from lakehouse.duck import S3Access, attach, connect
from schemas.settings import Settings
from tests.counterparts import S3Server, free_port
from tests.lake_fixtures import CLUSTER_ID, TOPIC_ID, bucket_settings, local_settings, make_table, write_rows


@dataclass
class Served:
    """A running REST catalog over a warehouse with one table."""

    http: str
    settings: Settings
    catalog: Catalog
    s3: S3Access | None

    def client(self) -> RestCatalog:
        secrets = (
            {}
            if self.s3 is None
            else {"s3.access-key-id": self.s3.access_key_id, "s3.secret-access-key": self.s3.secret_access_key}
        )
        return RestCatalog("lake", uri=f"{self.http}/iceberg", warehouse="neve", **secrets)

    def duck(self) -> duckdb.DuckDBPyConnection:
        connection = connect(self.s3)
        attach(connection, self.http)
        return connection

    def land(self, first: int, next_: int) -> None:
        """Commit rows [first, next_) of partition 0."""
        table = self.catalog.load_table(("topics", "events"))
        committer = TableCommitter(
            self.catalog, ("topics", "events"), topic_id=TOPIC_ID, table_uuid=table.metadata.table_uuid, epoch=1
        )
        change = Change(f"{first}", {0: first}, {0: next_}, 0, [write_rows(table, 0, range(first, next_))])
        assert committer.commit(committer.read(), change).result is Result.COMMITTED


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """uvicorn in a thread, until the context ends."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="warning", lifespan="on", timeout_graceful_shutdown=1
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def s3_reader(server: S3Server) -> Any:
    """`read_bytes` as an agent's wiring brings it, here over plain boto3."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    )

    async def read(location: str) -> bytes:
        bucket, key = location.removeprefix("s3://").split("/", 1)
        try:
            body: bytes = await asyncio.to_thread(lambda: client.get_object(Bucket=bucket, Key=key)["Body"].read())
        except client.exceptions.NoSuchKey as error:
            raise FileNotFoundError(location) from error
        return body

    return read


@contextmanager
def served(settings: Settings, read_bytes: Any, s3: S3Access | None) -> Iterator[Served]:
    warehouse: Warehouse = warehouse_of(settings, CLUSTER_ID)
    rows: CatalogRows = open_rows(warehouse)
    inner = rest_app(rows, read_bytes, warehouse.client_config)

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        await rows.close()

    outer = Starlette(routes=[Mount("/iceberg", inner)], lifespan=life)
    with catalog_of(warehouse, fsync=False) as catalog, serving(outer) as http:
        yield Served(http, settings, catalog, s3)


@pytest.fixture(params=["local folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    if request.param == "local folder":
        settings, read, s3 = local_settings(tmp_path), None, None
    else:
        server: S3Server = request.getfixturevalue("versitygw_server")
        bucket = server.create_bucket(f"b{uuid.uuid4().hex[:12]}")
        settings = bucket_settings(server, bucket, request.getfixturevalue("postgres_uri"))
        read = s3_reader(server)
        s3 = S3Access(server.access_key_id, server.secret_access_key, server.region, server.endpoint)
    with served(settings, read, s3) as lake:
        make_table(lake.catalog, warehouse_of(settings, CLUSTER_ID))
        lake.land(0, 100)
        yield lake


def test_duckdb_attaches_and_reads(lake: Served) -> None:
    with lake.duck() as duck:
        query = "SELECT count(*), min(_kafka_offset), max(_kafka_offset), max(text) FROM lake.topics.events"
        assert duck.execute(query).fetchall() == [(100, 0, 99, "row 99")]
        tables = duck.execute("SELECT schema, name FROM (SHOW ALL TABLES) WHERE database = 'lake'").fetchall()
        assert tables == [("topics", "events")]
    lake.land(100, 150)
    with lake.duck() as duck:
        assert duck.execute("SELECT count(*) FROM lake.topics.events").fetchall() == [(150,)]


def test_duckdb_can_not_write(lake: Served) -> None:
    with lake.duck() as duck:
        with pytest.raises(duckdb.Error, match="read-only"):
            duck.execute("INSERT INTO lake.topics.events VALUES (0, 100, 'mine')")
        with pytest.raises(duckdb.Error, match="read-only"):
            duck.execute("CREATE TABLE lake.topics.mine (a INTEGER)")
        assert duck.execute("SELECT count(*) FROM lake.topics.events").fetchall() == [(100,)]


def test_pyiceberg_client_reads(lake: Served) -> None:
    client = lake.client()
    assert client.list_namespaces() == [("topics",)]
    assert client.list_tables("topics") == [("topics", "events")]
    assert client.namespace_exists("topics")
    assert not client.namespace_exists("nothing")
    assert client.table_exists("topics.events")
    assert not client.table_exists("topics.nothing")
    table = client.load_table("topics.events")
    assert table.scan().to_arrow().num_rows == 100
    with pytest.raises(NoSuchTableError):
        client.load_table("topics.nothing")
    with pytest.raises(NoSuchNamespaceError):
        client.list_tables("nothing")
    # the client is told which endpoints there are, and doesn't even ask for others
    with pytest.raises(NotImplementedError, match="POST /v1"):
        client.create_namespace("mine")
    with pytest.raises(NotImplementedError, match="DELETE /v1"):
        client.drop_table("topics.events")
    with pytest.raises(NotImplementedError, match="POST /v1"):
        table.append(table.scan().to_arrow())
    assert lake.client().load_table("topics.events").scan().to_arrow().num_rows == 100


def test_no_secret_is_told(lake: Served) -> None:
    for path in ("/v1/config?warehouse=neve", "/v1/namespaces/topics/tables/events"):
        answer = requests.get(f"{lake.http}/iceberg{path}", timeout=10)
        assert answer.status_code == 200
        assert "secret-access-key" not in answer.text
        assert "neve-secret" not in answer.text
    if lake.s3 is not None:
        defaults = requests.get(f"{lake.http}/iceberg/v1/config", timeout=10).json()["defaults"]
        assert defaults["s3.endpoint"] == lake.s3.endpoint


def test_answers_by_the_specification(lake: Served) -> None:
    def get(path: str, **headers: str) -> requests.Response:
        return requests.get(f"{lake.http}/iceberg/v1{path}", headers=headers, timeout=10)

    assert get("/config?warehouse=other").json()["error"]["type"] == "BadRequestException"
    assert get("/nonsense").json()["error"]["code"] == 404
    missing = get("/namespaces/topics/tables/nothing")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "NoSuchTableException")
    assert get("/namespaces/no%1Fsuch").json()["error"]["message"] == "Namespace does not exist: no.such"
    loaded = get("/namespaces/topics/tables/events")
    assert get("/namespaces/topics/tables/events", **{"if-none-match": loaded.headers["etag"]}).status_code == 304
    lake.land(100, 101)
    again = get("/namespaces/topics/tables/events", **{"if-none-match": loaded.headers["etag"]})
    assert again.status_code == 200
    assert len(again.json()["metadata"]["snapshots"]) == 2
    assert len(get("/namespaces/topics/tables/events?snapshots=refs").json()["metadata"]["snapshots"]) == 1
    posted = requests.post(f"{lake.http}/iceberg/v1/namespaces", json={"namespace": ["x"]}, timeout=10)
    assert (posted.status_code, posted.json()["error"]["type"]) == (403, "ForbiddenException")
    for other in ("b", "c"):
        make_table(lake.catalog, warehouse_of(lake.settings, CLUSTER_ID), other)
    page = get("/namespaces/topics/tables?pageSize=2").json()
    assert [one["name"] for one in page["identifiers"]] == ["b", "c"]
    rest = get(f"/namespaces/topics/tables?pageSize=2&pageToken={page['next-page-token']}").json()
    assert ([one["name"] for one in rest["identifiers"]], rest["next-page-token"]) == (["events"], None)


def test_catalog_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    rows = open_rows(warehouse_of(local_settings(tmp_path), CLUSTER_ID))
    assert asyncio.run(rows.namespaces()) == []
    assert asyncio.run(rows.metadata_location("topics", "events")) is None


def test_postgres_catalog_that_does_not_exist_yet_is_empty(tmp_path: Path, postgres_uri: str) -> None:
    async def look() -> None:
        rows = open_rows(warehouse_of(local_settings(tmp_path, metadata=postgres_uri), CLUSTER_ID))
        assert await rows.namespaces() == []
        assert await rows.tables("topics") == []
        await rows.close()

    asyncio.run(look())
