"""UpdateFeatures (key 57), versions 0–2: INVALID_UPDATE_VERSION, as there are no features to change.

A request without updates is answered without an error.

Deviations:
- No feature is known, so each is refused in the words that Kafka has for an unknown one.
"""

from __future__ import annotations

from broker.kafka.answers import explain, request_of, response
from broker.kafka.call import Buffers, Call, Reply
from broker.kafka.registry import serve
from schemas.kafka.api_keys import ApiKey
from schemas.kafka.errors import ErrorCode


def _fail(call: Call, error: int, message: str | None = None) -> Buffers:
    return response(call, {"throttle_time": 0, **explain(error, message), "results": []}, had_error=True)


@serve(ApiKey.UPDATE_FEATURES, versions=(0, 2), fail=_fail)
def update_features(call: Call) -> Reply:
    """The first update decides, as in Kafka."""
    updates = request_of(call)["feature_updates"]
    if not updates:
        return response(call, {"throttle_time": 0, **explain(ErrorCode.NONE), "results": []})
    feature, level = updates[0]["feature"], updates[0]["max_version_level"]
    controller = call.context.services.cluster.self_view.broker_id
    why = f"Local controller {controller} does not support this feature." if level else f"Feature {feature} not found."
    message = (
        "The update failed for all features since the following feature had an error: "
        f"Invalid update version {level} for feature {feature}. {why}"
    )
    return _fail(call, ErrorCode.INVALID_UPDATE_VERSION, message)
