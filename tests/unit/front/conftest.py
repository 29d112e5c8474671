"""The front door's tests run on uvloop, as an agent does, and keep its log for looking at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs


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
