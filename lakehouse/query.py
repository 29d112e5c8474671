"""`neve query`: one SQL statement over the tables with DuckDB, through the REST catalog of a running system."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from lakehouse.duck import QueryError, S3Access, attach, connect
from schemas.names import NAMESPACE
from schemas.settings import Settings

__all__ = ["QueryError", "open_lake", "run_query", "s3_access"]


def run_query(sql: str, *, http: str, settings: Settings | None = None) -> pa.Table:
    """The result of `sql` as an Arrow table. Tables are `lake.topics.<name>`, or `topics.<name>`. Raises QueryError."""
    with open_lake(http, settings) as connection:
        try:
            found = connection.execute(sql)
            if found is None:
                raise QueryError("there is no statement in it: write, say, 'SELECT count(*) FROM topics.<topic>'")
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(str(error)) from error


def open_lake(http: str, settings: Settings | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with the system's tables attached and in use. Keys for S3 come from the settings in force."""
    try:
        connection = connect(s3_access(settings or Settings()))
    except duckdb.Error as error:
        raise QueryError(f"DuckDB can't be set up: {error}") from error
    try:
        attach(connection, http)
        _use_first_schema(connection)
    except duckdb.Error as error:
        connection.close()
        raise QueryError(str(error)) from error
    except QueryError:
        connection.close()
        raise
    return connection


def _use_first_schema(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the lake the default database, so that `topics.<name>` finds its tables; DuckDB wants a schema that exists."""
    found = connection.execute(
        "SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'lake' "
        f"ORDER BY schema_name <> '{NAMESPACE}', schema_name LIMIT 1"
    ).fetchone()
    if found is not None:
        schema = str(found[0]).replace('"', '""')
        connection.execute(f'USE lake."{schema}"')


def s3_access(settings: Settings) -> S3Access | None:
    """What the settings say about reading from S3; None without keys."""
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        return None
    return S3Access(
        settings.s3_access_key_id,
        settings.s3_secret_access_key,
        settings.s3_region,
        settings.s3_endpoint,
        settings.s3_path_style,
    )
