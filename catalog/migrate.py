"""Numbered migrations of the metadata database: `catalog/migrations/NNNN_name.sql`, applied once, in order.

Invariants: all pending migrations are applied in one transaction; several processes may start at once (the second waits
for the first and finds nothing to do); a database that is newer than this program is refused.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from catalog.database import Database, DatabaseError, Transaction

_ADVISORY_LOCK = 0x6E657665  # "neve"
_FILE_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")


class SchemaTooNew(DatabaseError):
    """The database was migrated by a newer program: start that one, or a newer one."""


class Migration(NamedTuple):
    """One numbered step and its statements."""

    version: int
    name: str
    statements: tuple[str, ...]


@cache
def migrations() -> tuple[Migration, ...]:
    """Every known migration, numbered from 1 without a gap."""
    found: list[Migration] = []
    for entry in sorted(files("catalog.migrations").iterdir(), key=lambda entry: entry.name):
        match = _FILE_NAME.match(entry.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], split_statements(entry.read_text(encoding="utf-8"))))
    assert [m.version for m in found] == list(range(1, len(found) + 1)), "migrations must be numbered without a gap"
    return tuple(found)


def split_statements(script: str) -> tuple[str, ...]:
    """The statements of a script. Comments run to the end of the line; semicolons stand only between statements."""
    lines = (line.split("--", 1)[0] for line in script.splitlines())
    return tuple(statement.strip() for statement in "\n".join(lines).split(";") if statement.strip())


async def migrate(db: Database) -> int:
    """Bring the schema up to date; returns its version. Raises SchemaTooNew."""

    async def apply(tx: Transaction) -> int:
        if db.dialect == "postgresql":
            await tx.fetch("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
        await tx.execute(
            "CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_ms BIGINT NOT NULL)"
        )
        [(version,)] = await tx.fetch("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
        known = migrations()
        if version > len(known):
            raise SchemaTooNew(
                f"the metadata database has schema version {version}, this program knows {len(known)}: "
                "run the version of neve that migrated it, or a newer one"
            )
        for migration in known[version:]:
            for statement in migration.statements:
                await tx.execute(statement)
            await tx.execute(
                "INSERT INTO schema_versions (version, name, applied_ms) VALUES ($1, $2, {now_ms})",
                migration.version,
                migration.name,
            )
        return len(known)

    return await db.transact(apply)
