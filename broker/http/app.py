"""The HTTP port's application: health, readiness, metrics, and whatever is mounted beside them (the Iceberg catalog).

`/healthz` says that the process runs its loop. `/readyz` asks every check the agent supplies, all at once and with a
time limit, and answers 200 or 503 with the outcome of each. `/metrics` is Prometheus' text format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

Check = Callable[[], Awaitable[str | None]]
"""None where all is well, else one line that says what is wrong and what to do. May raise: that counts as wrong."""


def make_app(
    checks: Mapping[str, Check],
    registry: CollectorRegistry,
    *,
    check_timeout_ms: int,
    mounts: Mapping[str, ASGIApp] | None = None,
) -> Starlette:
    """The application. `mounts` maps a path such as `/iceberg` to an ASGI application that serves what is below it."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        outcomes = await run_checks(checks, check_timeout_ms)
        ready = all(outcome == "ok" for outcome in outcomes.values())
        return JSONResponse({"ready": ready, "checks": outcomes}, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=None, headers={"content-type": content_type})

    routes: list[BaseRoute] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
    ]
    routes.extend(Mount(path, app=app) for path, app in (mounts or {}).items())
    return Starlette(routes=routes)


async def run_checks(checks: Mapping[str, Check], timeout_ms: int) -> dict[str, str]:
    """Every check's outcome, "ok" or what is wrong, in the order given; they run at the same time."""
    outcomes = await asyncio.gather(*(_outcome(check, timeout_ms) for check in checks.values()))
    return dict(zip(checks, outcomes, strict=True))


async def _outcome(check: Check, timeout_ms: int) -> str:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            return await check() or "ok"
    except TimeoutError:
        return f"no answer within {timeout_ms} ms"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
