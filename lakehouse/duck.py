"""DuckDB with the extensions from their wheels, attached to Neve's REST catalog.

Extensions are loaded by path, so nothing is downloaded. Everything is read: the catalog refuses writes. S3 keys come from
the caller's settings, never from the catalog.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from catalog.iceberg.warehouse import CATALOG_NAME

EXTENSIONS = ("avro", "httpfs", "iceberg")
"""In the order they have to be loaded in."""


class QueryError(Exception):
    """A query or its set-up failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """What DuckDB needs to read tables in a bucket."""

    access_key_id: str
    secret_access_key: str
    region: str
    endpoint: str | None = None
    """URL of an S3-compatible store; AWS when None."""
    path_style: bool = True


def connect(s3: S3Access | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with avro, httpfs and iceberg loaded. Raises QueryError where a wheel is missing."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    try:
        for name in EXTENSIONS:
            connection.load_extension(str(extension_path(name)))
        if s3 is not None:
            connection.execute(*_secret(s3))
    except Exception:
        connection.close()
        raise
    return connection


def attach(connection: duckdb.DuckDBPyConnection, http: str, name: str = "lake") -> None:
    """Attach the REST catalog of the system at `http` as database `name`. Raises QueryError where it doesn't answer."""
    endpoint = http.rstrip("/") + "/iceberg"
    statement = (
        f"ATTACH '{CATALOG_NAME}' AS {name} (TYPE iceberg, ENDPOINT {_quoted(endpoint)}, AUTHORIZATION_TYPE none)"
    )
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        raise QueryError(
            f"no table catalog at {endpoint}: {error}; is Neve running there (--http, NEVE_HTTP)?"
        ) from error


def extension_path(name: str) -> Path:
    """The file of one extension in its wheel."""
    package = f"duckdb_extension_{name}"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise QueryError(f"{package} isn't installed: pip install 'neve[lake]'")
    folder = Path(next(iter(found.submodule_search_locations)))
    path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.exists():
        raise QueryError(
            f"{package} doesn't fit duckdb {duckdb.__version__}: install the versions that 'neve[lake]' pins"
        )
    return path


def _secret(s3: S3Access) -> tuple[str, dict[str, str]]:
    parts = ["TYPE s3", "KEY_ID $key", "SECRET $secret", "REGION $region"]
    values = {"key": s3.access_key_id, "secret": s3.secret_access_key, "region": s3.region}
    if s3.endpoint is not None:
        url = urlsplit(s3.endpoint)
        parts += ["ENDPOINT $endpoint", f"USE_SSL {str(url.scheme == 'https').lower()}"]
        values["endpoint"] = url.netloc
    parts.append(f"URL_STYLE '{'path' if s3.path_style else 'vhost'}'")
    return f"CREATE SECRET neve_s3 ({', '.join(parts)})", values


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
