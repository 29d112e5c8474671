"""What the command line asks of a running agent: addresses, agents, topics (`/v1/cluster?topic=NAME`), and the state of
exports, as JSON under `/v1`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog.database import Database
from catalog.exports import ExportStore
from catalog.extents import ExtentStore
from catalog.key_cleaning import KeyCleaningStore
from catalog.sequence import ShardKey
from catalog.topics import TopicStore
from neve.http_faults import fault_routes
from neve.http_jobs import job_routes
from schemas.topic_config import value_of

if TYPE_CHECKING:
    from broker.agent import Agent
    from broker.agent_core import AgentCore


async def log_starts(core: AgentCore, keys: Sequence[ShardKey]) -> dict[ShardKey, int]:
    """Log starts as the database has them now."""
    marks = await ExtentStore(core.database).watermarks(keys) if keys else {}
    return {key: mark.log_start for key, mark in marks.items()}


async def described(core: AgentCore, names: Sequence[str]) -> list[dict[str, Any]]:
    """Partitions of the live topics among `names` with log start and high watermark, as the database has them now."""
    found = []
    for row in await TopicStore(core.database).by_names(names):
        marks = await ExtentStore(core.database).watermarks([(row.topic, shard) for shard in range(row.shards)])
        partitions = [
            {"partition": shard, "log_start": mark.log_start, "high_watermark": mark.high_watermark}
            for (_, shard), mark in sorted(marks.items())
        ]
        found.append({"topic": row.name, "topic_id": str(row.topic_id), "partitions": partitions})
    return found


def state_app(agent: Callable[[], Agent]) -> Starlette:
    """The ASGI application; `agent` is asked at each request, when it is up."""

    def database() -> Database:
        running = agent()
        assert running.core is not None
        return running.core.database

    async def cluster(request: Request) -> Response:
        running = agent()
        assert running.core is not None
        brokers = running.core.cluster.brokers()
        own = running.core.cluster.self_view
        answer: dict[str, Any] = {
            "cluster_id": running.core.cluster.cluster_id,
            "broker_id": own.broker_id,
            "kafka": f"{own.host}:{own.port}",
            "agents": [{"broker_id": b.broker_id, "kafka": f"{b.host}:{b.port}", "zone": b.zone} for b in brokers],
        }
        names = request.query_params.getlist("topic")
        if names:
            answer["topics"] = await described(running.core, names)
        return JSONResponse(answer)

    async def exports(_: Request) -> Response:
        running = agent()
        assert running.core is not None
        topics = {view.topic: view for view in await running.core.topics.all()}
        store = ExportStore(running.core.database)
        rows = await store.statuses()
        gaps = await store.gaps()
        shards = [(t, p) for t, view in topics.items() for p in range(view.shards)]
        starts = await log_starts(running.core, shards)
        compacted = await KeyCleaningStore(running.core.database).states(shards)
        return JSONResponse(
            [
                {
                    "topic": topics[row.topic].name if row.topic in topics else "",
                    "topic_number": row.topic,
                    "kind": row.kind,
                    "table": row.table_name,
                    "status": row.status,
                    "message": row.message,
                    "log_starts": {str(p): start for (t, p), start in starts.items() if t == row.topic and start},
                    "compacted": {
                        str(p): state.touched_through
                        for (t, p), state in sorted(compacted.items())
                        if t == row.topic and state.touched_through
                    },
                    "gaps": [
                        {"partition": gap.shard, "offset_first": gap.offset_first, "offset_next": gap.offset_next}
                        for gap in gaps
                        if (gap.topic, gap.kind) == (row.topic, row.kind)
                    ],
                    "offsets": {str(shard): offset for shard, offset in row.offsets.items()},
                    "committed_ms": row.committed_ms,
                    "invalid": value_of("iceberg.invalid", topics[row.topic].config) if row.topic in topics else "",
                }
                for row in rows
            ]
        )

    return Starlette(
        routes=[Route("/cluster", cluster), Route("/exports", exports), *fault_routes(agent), *job_routes(database)]
    )
