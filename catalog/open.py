"""Opening the metadata database that the settings name, with its schema brought up to date."""

from __future__ import annotations

from pathlib import Path

from catalog.database import Database, DatabaseError
from catalog.migrate import migrate
from catalog.sqlite import SqliteDatabase
from schemas.settings import Settings

EMBEDDED_FILE = "neve.db"


async def open_database(settings: Settings) -> Database:
    """`metadata` (postgresql://... or sqlite:///absolute/path), or `<data>/neve.db`; migrated. Raises DatabaseError and its kinds."""
    db = await _open(settings, metadata_url(settings))
    try:
        await migrate(db)
    except BaseException:
        await db.close()
        raise
    return db


def metadata_url(settings: Settings) -> str:
    """The URL of the metadata database: as set, else SQLite in the data folder."""
    if settings.metadata is not None:
        return settings.metadata
    if settings.data is not None:
        return f"sqlite://{settings.data.absolute() / EMBEDDED_FILE}"
    raise DatabaseError("no metadata database: give --data DIR, or --metadata postgresql://... beside --bucket")


async def _open(settings: Settings, url: str) -> Database:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = Path("/" + rest.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        return SqliteDatabase(
            path,
            synchronous="OFF" if settings.fsync == "never" else "FULL",
            busy_timeout_ms=settings.database_busy_timeout_ms,
            readers=settings.database_readers,
        )
    if scheme in ("postgresql", "postgres"):
        from catalog.postgres import PostgresDatabase  # asyncpg is loaded only where it is needed

        return await PostgresDatabase.open(
            url,
            writers=settings.database_writers,
            readers=settings.database_readers,
            connect_timeout_ms=settings.database_connect_timeout_ms,
            command_timeout_ms=settings.database_command_timeout_ms,
            attempts=settings.database_attempts,
        )
    raise DatabaseError(f"metadata URL {url!r}: want postgresql://... or sqlite:///absolute/path")
