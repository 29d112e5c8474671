"""ApiVersions (key 18), versions 0–4: which APIs and versions this agent serves, from the registry.

A version above 4 is answered in the v0 layout with UNSUPPORTED_VERSION and the range of this API alone, and the
connection stays; the response header never has tagged fields (KIP-511). A client software name or version that isn't
`[a-zA-Z0-9](?:[a-zA-Z0-9-.]*[a-zA-Z0-9])?` is answered with INVALID_REQUEST.

Deviations:
- No features are advertised, finalized or supported, so clients use the first transaction protocol when it comes.
"""

from __future__ import annotations

import re

from broker.kafka.answers import request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import Api, serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode

SOFTWARE_FROM = 3
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def _row(api: Api) -> dict[str, int]:
    return {"api_key": api.key, "min_version": api.advertised_min, "max_version": api.version_max}


def _fail(call: Call, error: int) -> Buffers:
    rows = [_row(call.api)] if error == ErrorCode.UNSUPPORTED_VERSION else []
    return response(call, {"error_code": error, "api_keys": rows, "throttle_time": 0}, had_error=True)


@serve(ApiKey.API_VERSIONS, versions=(0, 4), fail=_fail)
def api_versions(call: Call) -> Reply:
    """Every registered API, ascending by key."""
    request = request_of(call)
    if call.version >= SOFTWARE_FROM and not (
        _SOFTWARE.fullmatch(request["client_software_name"]) and _SOFTWARE.fullmatch(request["client_software_version"])
    ):
        return call.fail(ErrorCode.INVALID_REQUEST)
    rows = [_row(api) for api in call.context.apis.values()]
    return response(call, {"error_code": ErrorCode.NONE, "api_keys": rows, "throttle_time": 0})
