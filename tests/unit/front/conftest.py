"""The front door's tests run on uvloop, as an agent does, with in-memory services and one client, and keep its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from tests.front_fakes import Client, Fakes, running, settings


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop for every test here."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """What the front door logged."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture
async def fakes() -> Fakes:
    """The services behind the front door; a module that needs other settings has its own."""
    return Fakes(settings())


@pytest.fixture
async def client(fakes: Fakes) -> AsyncIterator[Client]:
    """Connected to a listener over `fakes`."""
    async with running(fakes) as (_, address):
        connected = await Client.connect(address)
        yield connected
        await connected.close()
