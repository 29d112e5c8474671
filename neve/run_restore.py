"""`neve restore`, wired: opens what the settings name, builds the database, and names the tables to their catalog again."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable

from broker.clock import SystemClock
from broker.journal.restore import Restored, restore_cluster
from broker.objects.open import open_store
from catalog.open import open_database
from schemas.settings import Settings


async def run_restore(settings: Settings, progress: Callable[[str, int], None] = lambda what, count: None) -> Restored:
    """Restore the cluster whose bucket the settings name into their database, which must be empty.

    Raises RestoreImpossible, NotEmpty, Contradiction, DatabaseError, ObjectStoreError.
    """
    clock, rng = SystemClock(), random.Random(int.from_bytes(os.urandom(16), "big"))
    store = open_store(settings, clock, rng)
    try:
        database = await open_database(settings)
        try:
            restored = await restore_cluster(store, database, clock, rng, progress)
        finally:
            await database.close()
    finally:
        await store.close()
    if restored.tables and importlib.util.find_spec("pyiceberg") is not None:
        from lakehouse.restore_tables import register_tables

        restored.notes += register_tables(settings, restored.cluster_id, restored.tables)
    elif restored.tables:
        restored.notes.append(
            "tables are not named to the catalog: that needs the lake packages, pip install 'neve[lake]'"
        )
    return restored
