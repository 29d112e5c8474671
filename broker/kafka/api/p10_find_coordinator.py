"""FindCoordinator (key 10), versions 0–6: the agent that coordinates a group, from version 4 of several groups.

A group's coordinator is the agent that holds its slot. A slot that nobody holds is taken by the agent that is asked or by
the one that the slot belongs to; COORDINATOR_NOT_AVAILABLE until that is settled.

Deviations:
- A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: transactions are not served yet, and this is
  the error that clients raise at once as fatal, naming the transactional id, instead of asking again for a minute.
- Keys of share groups are answered with INVALID_REQUEST, as Kafka does where share groups are switched off.
- Error messages are in our words.
"""

from __future__ import annotations

from typing import Any

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.group_answers import check_group_id, groups_of
from broker.kafka.registry import serve
from broker.services import BrokerView
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

BATCH_FROM = 4
GROUP = 0
TRANSACTION = 1
NO_ERROR = "NONE"
"""What Kafka says in answers for one key."""


def _keys(call: Call) -> list[str]:
    request = request_of(call)
    return list(request["coordinator_keys"]) if call.version >= BATCH_FROM else [request["key"]]


def _fail(call: Call, error: int) -> Buffers:
    return _response(call, [_answer(key, None, error) for key in _keys(call)])


@serve(ApiKey.FIND_COORDINATOR, versions=(0, 6), fail=_fail)
def find_coordinator(call: Call) -> Reply:
    """Groups alone have coordinators here."""
    kind = request_of(call).get("key_type", GROUP)
    if kind == TRANSACTION:
        return call.fail(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if kind != GROUP:
        return call.fail(ErrorCode.INVALID_REQUEST)
    return _find(call, _keys(call))


async def _find(call: Call, keys: list[str]) -> Buffers:
    return _response(call, [await _one(call, key) for key in keys])


async def _one(call: Call, key: str) -> dict[str, Any]:
    error = check_group_id(key, may_be_empty=True)
    if error:
        return _answer(key, None, error)
    holder = await groups_of(call).coordinator_of(key)
    return _answer(key, holder, ErrorCode.NONE if holder is not None else ErrorCode.COORDINATOR_NOT_AVAILABLE)


def _answer(key: str, holder: BrokerView | None, error: int) -> dict[str, Any]:
    return {
        "key": key,
        "node_id": -1 if holder is None else holder.broker_id,
        "host": "" if holder is None else holder.host,
        "port": -1 if holder is None else holder.port,
        "error_code": error,
        "error_message": explain(error)["error_message"] or "",
    }


def _response(call: Call, answers: list[dict[str, Any]]) -> Buffers:
    had_error = any(answer["error_code"] for answer in answers)
    if call.version >= BATCH_FROM:
        return response(call, {"throttle_time": 0, "coordinators": answers}, had_error=had_error)
    [answer] = answers
    return response(
        call, {"throttle_time": 0, **answer, "error_message": answer["error_message"] or NO_ERROR}, had_error=had_error
    )
