"""`/v1/jobs` of a running agent: GET lists the cluster's jobs, POST makes one due now. JSON both ways."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.jobs.metrics import job_facts
from catalog.database import Database, DatabaseError
from catalog.jobs import JobKey, JobStore


class _Hurried(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    job: str
    scope: str = ""


def job_routes(database: Callable[[], Database]) -> list[Route]:
    """Routes to mount below `/v1`; `database` is asked at each request, when it is open."""

    async def jobs(request: Request) -> Response:
        store = JobStore(database())
        try:
            now_ms, rows = await store.all()
            if request.method == "GET":
                return JSONResponse([job_facts(row, now_ms) for row in rows])
            wanted = _Hurried.model_validate_json(await request.body())
            key = JobKey(wanted.job, wanted.scope)
            if key not in {row.key for row in rows}:
                return JSONResponse({"error": f"there is no job {key.lease!r}"}, 404)
            await store.hurry([key])
            return JSONResponse({"job": key.name, "scope": key.scope})
        except ValidationError as error:
            return JSONResponse({"error": f"want {{'job': NAME, 'scope': SCOPE}}: {error.errors()[0]['msg']}"}, 400)
        except DatabaseError as error:
            return JSONResponse({"error": f"the metadata database can't be asked: {error}"}, 503)

    return [Route("/jobs", jobs, methods=["GET", "POST"])]
