"""Fixtures of the conformance suites."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from catalog.database import Database
from catalog.migrate import migrate
from tests.conformance.database_kinds import KINDS, OpenDatabase, open_kind


@pytest.fixture(params=KINDS)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenDatabase]:
    """Every implementation of the database port in turn, empty."""
    opened = await open_kind(request.param, tmp_path, lambda: str(request.getfixturevalue("postgres_uri")))
    yield opened
    await opened.close()


@pytest.fixture
def database(opened: OpenDatabase) -> Database:
    """The same, where one handle is enough."""
    return opened.db


@pytest.fixture
async def migrated(opened: OpenDatabase) -> OpenDatabase:
    """Every implementation in turn, with the schema in place."""
    await migrate(opened.db)
    return opened
