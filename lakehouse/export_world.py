"""What the export of every topic works with, and the words that say how it stands. Values and seams only, no behaviour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pyiceberg.catalog import Catalog

from broker.services import Clock
from catalog.exports import ExportStore
from catalog.extents import ExtentStore
from lakehouse.log_slice import LogReader
from schemas.settings import Settings

PENDING, RUNNING, DEGRADED, PAUSED, CONFIG_ISSUE = "Pending", "Running", "Degraded", "Paused", "Config Issue"


@dataclass(frozen=True, slots=True)
class ExportWorld:
    """Everything the exporter works with."""

    settings: Settings
    clock: Clock
    rng: Random
    extents: ExtentStore
    exports: ExportStore
    log: LogReader
    catalog: Catalog
    warehouse: str
    blocking: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Runs a function in the worker thread."""
    checkpoint: Callable[[str], None] = lambda place: None
    """Called between the steps that a crash may fall between; tests kill the process here."""


@dataclass(slots=True)
class TableFacts:
    """What metrics say of one table."""

    rows: int = 0
    last_success_ms: int | None = None
    valid_through_ms: int = 0
    offset_lag: int = 0
    gap_records: int = 0
    """Records that were deleted from the log before they were in the table."""
