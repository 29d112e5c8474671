"""AlterUserScramCredentials (key 51), versions 0–0: SECURITY_DISABLED for each user, as there is no authentication yet.

Deviations:
- Kafka checks and stores credentials also where no listener asks for them; here they would be told as stored and be
  worth nothing, so they are refused.
"""

from __future__ import annotations

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

NO_AUTHENTICATION = "SCRAM credentials can't be stored: there is no authentication on this cluster."


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    request = request_of(call)
    names = dict.fromkeys(entry["name"] for entry in [*request["deletions"], *request["upsertions"]])
    results = [{"user": name, **explain(error, message)} for name in names]
    return response(call, {"throttle_time": 0, "results": results}, had_error=bool(results))


@serve(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, versions=(0, 0), fail=_fail)
def alter_user_scram_credentials(call: Call) -> Reply:
    """Nothing is stored."""
    return _fail(call, ErrorCode.SECURITY_DISABLED, NO_AUTHENTICATION)
