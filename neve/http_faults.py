"""`/v1/faults` of a running agent: GET lists the rules, POST sets one, DELETE removes one or all. JSON both ways.

Answers 403 where the agent's profile is production, 400 where a rule means nothing, 503 where the database can't be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from catalog.database import DatabaseError
from schemas.fault_points import DELAY_MS, FaultRule, WrongFault

if TYPE_CHECKING:
    from broker.agent import Agent
    from broker.faults.staged import SetFault, StagedFaults

REFUSED = (
    "faults are refused: this agent's profile is production; start agents of a staging system with "
    "NEVE_PROFILE=staging, or profile = 'staging' in neve.toml"
)


class _NewFault(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    point: str
    rate: float = 1.0
    pattern: str = "*"
    delay_ms: int = DELAY_MS
    times: int | None = None
    for_ms: int | None = None


def as_row(fault: SetFault) -> dict[str, Any]:
    """One rule as the command line shows it."""
    rule = fault.rule
    return {
        "fault": rule.number,
        "point": rule.point,
        "rate": rule.rate,
        "pattern": rule.pattern,
        "delay_ms": rule.delay_ms,
        "times": rule.times,
        "left_ms": fault.left_ms,
        "fired_here": fault.fired,
    }


def fault_routes(agent: Callable[[], Agent]) -> list[Route]:
    """Routes to mount below `/v1`; `agent` is asked at each request, when it is up."""

    async def faults(request: Request) -> Response:
        staged = agent().faults
        if staged is None:
            return JSONResponse({"error": REFUSED}, 403)
        try:
            return await _answer(staged, request)
        except (WrongFault, ValidationError) as error:
            return JSONResponse({"error": _said(error)}, 400)
        except DatabaseError as error:
            return JSONResponse({"error": f"the metadata database can't be asked now: {error}"}, 503)

    return [Route("/faults", faults, methods=["GET", "POST", "DELETE"])]


async def _answer(staged: StagedFaults, request: Request) -> Response:
    if request.method == "POST":
        new = _NewFault.model_validate_json(await request.body())
        if new.for_ms is not None and new.for_ms < 1:
            raise WrongFault(f"for {new.for_ms} ms: want at least 1")
        rule = FaultRule(new.point, new.rate, new.pattern, new.delay_ms, new.times)
        return JSONResponse({"fault": await staged.add(rule, new.for_ms)}, 201)
    if request.method == "DELETE":
        asked = request.query_params.get("fault", "")
        if asked != "all" and not asked.isdigit():
            raise WrongFault(f"fault {asked!r}: want its number, or all")
        return JSONResponse({"removed": await staged.remove(None if asked == "all" else int(asked))})
    return JSONResponse([as_row(fault) for fault in await staged.in_force()])


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}"
    return str(error)
