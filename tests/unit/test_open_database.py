"""Which database the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

import catalog
from catalog.database import DatabaseError
from catalog.open import metadata_url, open_database
from catalog.sqlite import SqliteDatabase
from schemas.settings import Settings


async def test_embedded_database_is_made_and_migrated(tmp_path: Path) -> None:
    db = await open_database(Settings(data=tmp_path / "fresh"))
    assert isinstance(db, SqliteDatabase)
    assert (tmp_path / "fresh" / "neve.db").exists()
    versions = await db.snapshot(lambda tx: tx.fetch("SELECT version FROM schema_versions ORDER BY version"))
    files = sorted((Path(catalog.__file__).parent / "migrations").glob("*.sql"))
    assert [row[0] for row in versions] == [int(file.name.split("_")[0]) for file in files] != []
    await db.close()


async def test_sqlite_by_url_without_flushing(tmp_path: Path) -> None:
    settings = Settings(metadata=f"sqlite://{tmp_path}/other.db", data=tmp_path, fsync="never")
    db = await open_database(settings)
    assert tuple((await db.transact(lambda tx: tx.fetch("PRAGMA synchronous")))[0]) == (0,)
    await db.close()
    assert (tmp_path / "other.db").exists()


async def test_what_can_not_be_opened_says_what_to_give() -> None:
    with pytest.raises(DatabaseError, match="--data"):
        metadata_url(Settings(data=None, metadata=None))
    with pytest.raises(DatabaseError, match="postgresql://"):
        await open_database(Settings(metadata="mysql://x/y"))
