"""The exporter's catalog: pyiceberg's SqlCatalog on a SQLite file of its own or on PostgreSQL, made from settings.

Never imported by a broker process (it loads pyiceberg and SQLAlchemy). The catalog opens with SQLite in WAL mode so that
the REST catalog's readers and the committer don't block one another, and with synchronous=FULL, because a table commit
that was reported must survive a power cut.
"""

from __future__ import annotations

import ssl
from typing import Any

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from catalog.iceberg.sql_catalog_file_io import FSYNC_PROPERTY, DurableFileIO
from catalog.iceberg.warehouse import CATALOG_NAME, Warehouse, WarehouseError, warehouse_of
from schemas.settings import Settings

BUSY_TIMEOUT_MS = 30_000
_TLS_MODES = ("require", "verify-ca", "verify-full")
_PLAIN_MODES = ("", "disable", "allow", "prefer")


class EngineCatalog(SqlCatalog):
    """SqlCatalog over an engine made here, because pyiceberg's own constructor takes no engine options."""

    def __init__(self, name: str, engine: Engine, **properties: str) -> None:
        MetastoreCatalog.__init__(self, name, **properties)
        self.engine = engine
        try:
            self._init_catalog()
        except (IntegrityError, OperationalError, ProgrammingError):
            # Two exporters opened a new catalog at once, and the other's tables stand now.
            self._init_catalog()


def open_catalog(settings: Settings, cluster_id: str) -> Catalog:
    """The catalog of a cluster; its tables are made when they don't exist yet. WarehouseError for unusable settings."""
    fsync = settings.fsync == "always"
    return catalog_of(warehouse_of(settings, cluster_id), fsync=fsync)


def catalog_of(warehouse: Warehouse, *, fsync: bool = True) -> Catalog:
    """The catalog of a warehouse."""
    if warehouse.postgres is not None:
        engine = _postgres_engine(warehouse.postgres)
    else:
        assert warehouse.sqlite is not None
        warehouse.sqlite.parent.mkdir(parents=True, exist_ok=True)
        engine = _sqlite_engine(f"sqlite:///{warehouse.sqlite}", fsync=fsync)
    properties = {
        "warehouse": warehouse.location,
        "py-io-impl": f"{DurableFileIO.__module__}.{DurableFileIO.__name__}",
        FSYNC_PROPERTY: "always" if fsync else "never",
        **warehouse.file_io,
    }
    return EngineCatalog(CATALOG_NAME, engine, **properties)


def _sqlite_engine(url: str, *, fsync: bool) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if fsync else 'OFF'}")

    return engine


def _postgres_engine(url: str) -> Engine:
    target, arguments = pg8000_target(url)
    return create_engine(target, connect_args=arguments, pool_pre_ping=True, pool_size=1, max_overflow=1)


def pg8000_target(url: str) -> tuple[URL, dict[str, Any]]:
    """A libpq-style URL as SQLAlchemy's URL for pg8000 and its connect arguments (unix socket, TLS).

    Raises WarehouseError for parameters that would silently change how the server is reached.
    """
    parsed = make_url(url)
    query = {key: value if isinstance(value, str) else value[0] for key, value in parsed.query.items()}
    arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT_MS / 1000}
    port = int(query.pop("port", parsed.port or 5432))
    host = query.pop("host", parsed.host or "")
    if host.startswith("/"):
        arguments["unix_sock"] = f"{host}/.s.PGSQL.{port}"
    mode = query.pop("sslmode", "")
    if mode in _TLS_MODES:
        arguments["ssl_context"] = _tls(mode, query.pop("sslrootcert", None))
    elif mode not in _PLAIN_MODES:
        raise WarehouseError(
            f"sslmode={mode} in --metadata isn't known: use one of {', '.join(_TLS_MODES + _PLAIN_MODES[1:])}"
        )
    query.pop("application_name", None)
    if query:
        raise WarehouseError(f"--metadata carries parameters the table catalog can't use: {', '.join(sorted(query))}")
    if parsed.username is None:
        raise WarehouseError(
            "--metadata needs a user name for the table catalog: postgresql://USER:PASSWORD@HOST/DATABASE"
        )
    target = URL.create(
        "postgresql+pg8000",
        parsed.username,
        parsed.password,
        None if host.startswith("/") else host or "localhost",
        None if host.startswith("/") else port,
        parsed.database,
    )
    return target, arguments


def _tls(mode: str, root_certificate: str | None) -> ssl.SSLContext:
    """libpq's meaning: `require` encrypts without checking the name, verify-ca checks the chain, verify-full the name too."""
    context = ssl.create_default_context(cafile=root_certificate)
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root_certificate is None:
        context.verify_mode = ssl.CERT_NONE
    return context
