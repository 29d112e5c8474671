"""Before an agent does anything: bucket and database must carry the same cluster id, or the agent refuses to start.

Owns: nothing is deleted or replaced to make them agree; the id goes into the database first, then into the bucket.
"""

from __future__ import annotations

import random

from broker.objects.cluster_file import Refuse, Start, agree, claim
from broker.objects.cluster_file import read as read_cluster_file
from broker.objects.port import ObjectStore
from broker.services import Clock
from catalog.cluster import ClusterStore
from catalog.database import Database


class ClusterMismatch(Exception):
    """Bucket and database belong to different clusters; the message says what to do."""


async def agree_on_cluster(store: ObjectStore, database: Database, clock: Clock, rng: random.Random) -> str:
    """The cluster id that both carry, created where both are empty. Raises ClusterMismatch and both ports' errors."""
    for look in range(3):  # another agent may be creating the cluster at this moment
        found = await read_cluster_file(store)
        step = agree(
            found.cluster_id if found is not None else None,
            await ClusterStore(database).get(),
            database_holds_objects=await _holds_objects(database),
        )
        if isinstance(step, Refuse):
            if look == 0:  # the bucket was read first: the cluster may have been made, and written to, in between
                continue
            raise ClusterMismatch(step.message)
        if isinstance(step, Start):
            return step.cluster_id
        cluster_id = await ClusterStore(database).get_or_create(f"{rng.getrandbits(128):032x}")
        await claim(store, cluster_id, clock.now_ms())
    raise ClusterMismatch("bucket and database changed while the agent was starting; start it again")


async def _holds_objects(database: Database) -> bool:
    return bool(await database.snapshot(lambda tx: tx.fetch("SELECT 1 FROM objects LIMIT 1")))
