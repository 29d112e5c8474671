"""Where the tables and their catalog live, worked out from settings alone. Pure; imports neither pyiceberg nor a driver.

One function feeds both sides: the exporter's catalog and FileIO (`sql_catalog`) and the broker's read-only REST
catalog (`rest_app`). Invariant owned here: secrets stand in `file_io` only and never in `client_config`, which is told
to everybody who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from schemas.settings import Settings

CATALOG_NAME = "neve"
"""Name of the warehouse, and of the catalog inside the tables of the SQL catalog."""


class WarehouseError(ValueError):
    """Settings that name no place for the tables; the message says which setting to give."""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """Places of one cluster's tables."""

    location: str
    """URL below which tables live: `file:///...` or `s3://bucket/prefix/<cluster id>/tables`, without a slash at its end."""
    sqlite: Path | None
    """File of the SQL catalog in embedded mode."""
    postgres: str | None
    """`postgresql://` URL of the database that holds the SQL catalog otherwise."""
    client_config: Mapping[str, str] = field(default_factory=dict)
    """What clients of the REST catalog are told (`s3.endpoint`, `s3.region`, path style): never a secret."""
    file_io: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Properties of the exporter's FileIO, with keys where the settings have them."""

    def key_of(self, location: str, store_root: str) -> str:
        """The object key of a location, relative to the store's root URL. Raises WarehouseError outside of it."""
        root = store_root.rstrip("/") + "/"
        if not location.startswith(root):
            raise WarehouseError(f"{location} doesn't lie below {root}")
        return location[len(root) :]


def warehouse_of(settings: Settings, cluster_id: str) -> Warehouse:
    """The warehouse of a cluster under these settings. Raises WarehouseError where neither data nor bucket is set."""
    sqlite, postgres = _catalog_place(settings)
    client_config = _client_config(settings)
    return Warehouse(
        location=f"{store_root_of(settings)}/{cluster_id}/tables",
        sqlite=sqlite,
        postgres=postgres,
        client_config=client_config,
        file_io=client_config | _secrets(settings),
    )


def store_root_of(settings: Settings) -> str:
    """URL of the object store's root, without a slash at its end."""
    if settings.bucket is not None:
        url = settings.bucket.rstrip("/")
        if url.startswith("file:"):
            return f"file://{Path(unquote(urlsplit(url).path)).resolve()}"
        return url
    if settings.data is not None:
        return f"file://{(settings.data / 'objects').resolve()}"
    raise WarehouseError("no place for tables: give --data DIR, or --bucket URL with --metadata URL")


def _catalog_place(settings: Settings) -> tuple[Path | None, str | None]:
    """(SQLite file, None) or (None, PostgreSQL URL). The SQLite file is the catalog's own, beside the sequencer's."""
    if settings.metadata is None:
        if settings.data is None:
            raise WarehouseError("no place for the catalog of tables: give --data DIR or --metadata URL")
        return (settings.data / "catalog.db").resolve(), None
    if settings.metadata.startswith("sqlite:"):
        return Path(unquote(urlsplit(settings.metadata).path)).resolve().with_name("catalog.db"), None
    return None, settings.metadata


def _client_config(settings: Settings) -> dict[str, str]:
    if settings.bucket is None or not settings.bucket.startswith("s3://"):
        return {}
    config = {
        "s3.region": settings.s3_region,
        "client.region": settings.s3_region,
        "s3.path-style-access": str(settings.s3_path_style).lower(),
        "s3.force-virtual-addressing": str(not settings.s3_path_style).lower(),
    }
    if settings.s3_endpoint is not None:
        config["s3.endpoint"] = settings.s3_endpoint
    return config


def _secrets(settings: Settings) -> dict[str, str]:
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        return {}
    return {
        "s3.access-key-id": settings.s3_access_key_id,
        "s3.secret-access-key": settings.s3_secret_access_key,
    }
