"""Reads the tables of the SQL catalog (`iceberg_tables`, `iceberg_namespace_properties`) without pyiceberg or SQLAlchemy.

Only reads: nothing here can write. A catalog whose tables don't exist yet is an empty catalog. The layout is the one
shared by pyiceberg's SqlCatalog and Iceberg's JdbcCatalog; namespaces stand in one column, levels joined by dots.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from catalog.iceberg.warehouse import CATALOG_NAME, Warehouse

_NAMESPACES = """
SELECT namespace FROM iceberg_namespace_properties WHERE catalog_name = $1
UNION SELECT table_namespace FROM iceberg_tables WHERE catalog_name = $1
"""
_PROPERTIES = """
SELECT property_key, property_value FROM iceberg_namespace_properties
WHERE catalog_name = $1 AND namespace = $2 ORDER BY property_key
"""
_TABLES = """
SELECT table_name FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 ORDER BY table_name
"""
_LOCATION = """
SELECT metadata_location FROM iceberg_tables WHERE catalog_name = $1 AND table_namespace = $2 AND table_name = $3
"""


class CatalogUnavailable(Exception):
    """The catalog's database can't be read now; retry after."""


class RowReader(Protocol):
    """Runs one query of this module over the catalog's database."""

    async def fetch(self, sql: str, *args: str) -> Sequence[Sequence[Any]]:
        """All rows; none where the catalog's tables don't exist yet. Raises CatalogUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class SqliteRows:
    """The catalog in a SQLite file, opened read-only for each query in a worker thread."""

    def __init__(self, path: Path, *, busy_timeout_ms: int = 5_000) -> None:
        self._path = path
        self._busy_timeout_ms = busy_timeout_ms

    async def fetch(self, sql: str, *args: str) -> Sequence[Sequence[Any]]:
        """All rows; none where the file or its tables don't exist yet."""
        return await asyncio.to_thread(self._fetch, sql.replace("$", "?"), args)

    def _fetch(self, sql: str, args: tuple[str, ...]) -> list[Sequence[Any]]:
        if not self._path.exists():
            return []
        try:
            uri = f"{self._path.as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=self._busy_timeout_ms / 1000)) as connection:
                return connection.execute(sql, args).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise CatalogUnavailable(f"the catalog {self._path} can't be read: {error}") from error

    async def close(self) -> None:
        """Nothing is held open."""


class PostgresRows:
    """The catalog in PostgreSQL, over a small pool of its own that is opened at the first query."""

    def __init__(self, url: str, *, connections_max: int = 2, timeout_ms: int = 5_000) -> None:
        self._url = url
        self._connections_max = connections_max
        self._timeout_s = timeout_ms / 1000
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, *args: str) -> Sequence[Sequence[Any]]:
        """All rows; none where the catalog's tables don't exist yet."""
        try:
            pool = await self._open()
            return [tuple(row) for row in await pool.fetch(sql, *args, timeout=self._timeout_s)]
        except asyncpg.UndefinedTableError:
            return []
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CatalogUnavailable(f"the catalog's database can't be read: {error}") from error

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url, min_size=0, max_size=self._connections_max, timeout=self._timeout_s
                )
            return self._pool

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close()
            self._pool = None


class CatalogRows:
    """What the catalog holds, as plain names."""

    def __init__(self, reader: RowReader, catalog_name: str = CATALOG_NAME) -> None:
        self._reader = reader
        self._name = catalog_name

    async def namespaces(self) -> list[str]:
        """Every namespace as a dotted name, sorted."""
        return sorted(row[0] for row in await self._reader.fetch(_NAMESPACES, self._name))

    async def namespace_properties(self, namespace: str) -> dict[str, str] | None:
        """Properties of a namespace, or None where neither it, a child of it nor a table in it exists."""
        rows = await self._reader.fetch(_PROPERTIES, self._name, namespace)
        if rows:
            return {key: value for key, value in rows if key != "exists"}
        known = await self.namespaces()
        if namespace in known or any(name.startswith(namespace + ".") for name in known):
            return {}
        return None

    async def tables(self, namespace: str) -> list[str]:
        """Names of the tables in a namespace, sorted."""
        return [row[0] for row in await self._reader.fetch(_TABLES, self._name, namespace)]

    async def metadata_location(self, namespace: str, table: str) -> str | None:
        """Location of a table's current metadata, or None where there is no such table."""
        rows = await self._reader.fetch(_LOCATION, self._name, namespace, table)
        return rows[0][0] if rows else None

    async def close(self) -> None:
        """Release connections."""
        await self._reader.close()


def open_rows(warehouse: Warehouse) -> CatalogRows:
    """A reader over the warehouse's SQL catalog."""
    if warehouse.postgres is not None:
        return CatalogRows(PostgresRows(warehouse.postgres))
    assert warehouse.sqlite is not None
    return CatalogRows(SqliteRows(warehouse.sqlite))
