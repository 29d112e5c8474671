"""cluster.json: which cluster a bucket prefix belongs to, and whether that agrees with the metadata database.

Invariants: the file is written once and never replaced; an agent starts only when bucket and database carry the same
cluster id; and nothing is ever deleted to make them agree.

The order at the first start is: the id goes into the database, then into the bucket. A crash between the two leaves a
database with an id and an empty prefix, which the next start completes (Adopt) as long as the database knows no objects.
The other order would leave a bucket with an id beside an empty database, which looks like a lost database.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from broker.objects.port import AlreadyExists, Corrupt, NotFound, ObjectStore, Refused

CLUSTER_FILE = "cluster.json"
FORMAT = 1
_CLUSTER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """The content of cluster.json. `created_ms` is Unix milliseconds."""

    cluster_id: str
    format: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class Create:
    """Neither has an id: make one, put it into the database, then claim the bucket with it."""


@dataclass(frozen=True, slots=True)
class Start:
    """Both carry this id."""

    cluster_id: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """The database has this id, the bucket none yet: claim the bucket with it."""

    cluster_id: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """They don't belong together; the message says what to do."""

    message: str


def agree(
    bucket_id: str | None, database_id: str | None, *, database_holds_objects: bool
) -> Create | Start | Adopt | Refuse:
    """What to do at a start. Ids are None where there is none yet."""
    if database_id is None:
        if bucket_id is None:
            return Create()
        return Refuse(
            f"the bucket prefix holds cluster {bucket_id}, but the metadata database is empty: name the database that "
            "belongs to it, rebuild one with `neve restore`, or use another prefix. Nothing was changed"
        )
    if bucket_id is None:
        if not database_holds_objects:
            return Adopt(database_id)
        return Refuse(
            f"the metadata database knows objects of cluster {database_id}, but the bucket prefix has no {CLUSTER_FILE}: "
            "name the bucket and prefix that belong to it. Nothing was changed"
        )
    if bucket_id == database_id:
        return Start(database_id)
    return Refuse(
        f"the bucket prefix belongs to cluster {bucket_id}, the metadata database to cluster {database_id}: "
        "name two that belong together. Nothing was changed"
    )


def encode(content: ClusterFile) -> bytes:
    """The bytes of cluster.json; the same content gives the same bytes, so that claiming twice finds its own."""
    fields = {"cluster_id": content.cluster_id, "format": content.format, "created_ms": content.created_ms}
    return json.dumps(fields, indent=2).encode() + b"\n"


def decode(body: bytes) -> ClusterFile:
    """The content, checked. Corrupt when it isn't one; Refused when a newer Neve wrote it."""
    try:
        found = json.loads(body)
        content = ClusterFile(found["cluster_id"], found["format"], found["created_ms"])
    except (ValueError, KeyError, TypeError):
        raise Corrupt(f"{CLUSTER_FILE} is not what Neve wrote: restore it from a backup of the bucket") from None
    if type(content.format) is int and content.format > FORMAT:
        raise Refused(f"{CLUSTER_FILE} has format {content.format}, this Neve knows {FORMAT}: upgrade Neve")
    numbers = type(content.format) is int and type(content.created_ms) is int
    if not numbers or not isinstance(content.cluster_id, str) or not _CLUSTER_ID.fullmatch(content.cluster_id):
        raise Corrupt(f"{CLUSTER_FILE} is not what Neve wrote: restore it from a backup of the bucket")
    return content


async def read(store: ObjectStore) -> ClusterFile | None:
    """The cluster that holds the prefix, or None."""
    try:
        return decode(bytes(await store.get(CLUSTER_FILE)))
    except NotFound:
        return None


async def claim(store: ObjectStore, cluster_id: str, created_ms: int) -> str:
    """Put cluster.json if absent; the id that stands there now, which is another's where somebody was first.

    `store` has to be one with retries: its AlreadyExists means other content. Then compare by `agree` once more.
    """
    if not _CLUSTER_ID.fullmatch(cluster_id):
        raise ValueError(f"{cluster_id!r} is no cluster id")
    try:
        await store.put(CLUSTER_FILE, [encode(ClusterFile(cluster_id, FORMAT, created_ms))])
        return cluster_id
    except AlreadyExists:
        standing = await read(store)
    if standing is None:
        raise Corrupt(f"{CLUSTER_FILE} exists and can't be read: is somebody deleting from the bucket?")
    return standing.cluster_id
