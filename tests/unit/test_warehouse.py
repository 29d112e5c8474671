"""Where tables and their catalog live, and what of it is told to clients."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from catalog.iceberg.metadata_file import METADATA_BYTES_MAX, MetadataUnreadable, metadata_json
from catalog.iceberg.sql_catalog import pg8000_target
from catalog.iceberg.warehouse import WarehouseError, store_root_of, warehouse_of
from schemas.settings import Settings


def test_embedded_mode() -> None:
    found = warehouse_of(Settings(data=Path("/srv/neve")), "c1")
    assert found.location == "file:///srv/neve/objects/c1/tables"
    assert (found.sqlite, found.postgres) == (Path("/srv/neve/catalog.db"), None)
    assert found.client_config == {}


def test_bucket_mode_tells_no_secret() -> None:
    settings = Settings(
        bucket="s3://b/prefix/",
        metadata="postgresql://u:p@h/d",
        s3_endpoint="http://127.0.0.1:1",
        s3_access_key_id="key",
        s3_secret_access_key="hidden",
    )
    found = warehouse_of(settings, "c1")
    assert found.location == "s3://b/prefix/c1/tables"
    assert (found.sqlite, found.postgres) == (None, "postgresql://u:p@h/d")
    assert found.client_config["s3.endpoint"] == "http://127.0.0.1:1"
    assert "hidden" not in str(found.client_config) + repr(found)
    assert found.file_io["s3.secret-access-key"] == "hidden"
    assert found.key_of(found.location + "/t/m.json", store_root_of(settings)) == "c1/tables/t/m.json"
    with pytest.raises(WarehouseError):
        found.key_of("s3://other/x", store_root_of(settings))


def test_sqlite_metadata_keeps_its_own_catalog_file() -> None:
    settings = Settings(bucket="file:///srv/objects", metadata="sqlite:///srv/meta/neve.db")
    assert warehouse_of(settings, "c1").sqlite == Path("/srv/meta/catalog.db")
    assert warehouse_of(settings, "c1").location == "file:///srv/objects/c1/tables"


def test_no_place_is_said() -> None:
    with pytest.raises(WarehouseError, match="--data"):
        warehouse_of(Settings(), "c1")


def test_postgres_urls_of_libpq() -> None:
    target, arguments = pg8000_target("postgresql://u:p%40@db:5433/neve?sslmode=prefer")
    assert target.render_as_string(hide_password=False) == "postgresql+pg8000://u:p%40@db:5433/neve"
    assert "ssl_context" not in arguments
    target, arguments = pg8000_target("postgresql://u@/neve?host=/run/pg")
    assert arguments["unix_sock"] == "/run/pg/.s.PGSQL.5432"
    context = pg8000_target("postgresql://u@h/d?sslmode=verify-full")[1]["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    for url in ("postgresql://u@h/d?sslmode=odd", "postgresql://u@h/d?target_session_attrs=primary", "postgresql:///d"):
        with pytest.raises(WarehouseError):
            pg8000_target(url)


def test_metadata_files_are_bounded() -> None:
    import gzip

    assert metadata_json("s3://b/v1.gz.metadata.json", gzip.compress(b"{}")) == b"{}"
    bomb = gzip.compress(b" " * (METADATA_BYTES_MAX + 1))
    with pytest.raises(MetadataUnreadable, match="more than"):
        metadata_json("s3://b/v1.gz.metadata.json", bomb)
    with pytest.raises(MetadataUnreadable, match="not gzip"):
        metadata_json("s3://b/v1.gz.metadata.json", b"{}")
