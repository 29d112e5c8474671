"""What the command line asks of a running agent: addresses, agents, and the state of exports, as JSON under `/v1`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog.exports import ExportStore
from schemas.topic_config import value_of

if TYPE_CHECKING:
    from broker.agent import Agent


def state_app(agent: Callable[[], Agent]) -> Starlette:
    """The ASGI application; `agent` is asked at each request, when it is up."""

    async def cluster(_: Request) -> Response:
        running = agent()
        assert running.core is not None
        brokers = running.core.cluster.brokers()
        own = running.core.cluster.self_view
        return JSONResponse(
            {
                "cluster_id": running.core.cluster.cluster_id,
                "broker_id": own.broker_id,
                "kafka": f"{own.host}:{own.port}",
                "agents": [{"broker_id": b.broker_id, "kafka": f"{b.host}:{b.port}", "zone": b.zone} for b in brokers],
            }
        )

    async def exports(_: Request) -> Response:
        running = agent()
        assert running.core is not None
        topics = {view.topic: view for view in await running.core.topics.all()}
        rows = await ExportStore(running.core.database).statuses()
        return JSONResponse(
            [
                {
                    "topic": topics[row.topic].name if row.topic in topics else "",
                    "topic_number": row.topic,
                    "kind": row.kind,
                    "table": row.table_name,
                    "status": row.status,
                    "message": row.message,
                    "offsets": {str(shard): offset for shard, offset in row.offsets.items()},
                    "committed_ms": row.committed_ms,
                    "invalid": value_of("iceberg.invalid", topics[row.topic].config) if row.topic in topics else "",
                }
                for row in rows
            ]
        )

    return Starlette(routes=[Route("/cluster", cluster), Route("/exports", exports)])
