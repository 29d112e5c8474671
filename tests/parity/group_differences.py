"""The rows of the table of differences that group APIs need; importing adds them."""

from __future__ import annotations

from schemas.kafka.api_keys import ApiKey
from tests.parity.differences import DIFFERENCES, SOMETHING, Difference
from tests.parity.wire import Nothing

J, S, FIND = ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP, ApiKey.FIND_COORDINATOR

DIFFERENCES += [
    *(
        Difference(
            J, "group_pending_ids", f"with an instance: .{field}", kafka, neve, "together with an instance id",
            "Kafka stumbles over it (UNKNOWN_SERVER_ERROR)",
        )
        for field, kafka, neve in (("error_code", -1, 25), ("member_id", "", "parity-<b 1>"))
    ),
    Difference(
        J, "group_joins_twice", "the first call: ", Nothing.SILENT, 27, "A second call of a member",
        "a caller that waits for ever helps nobody",
    ),
    Difference(
        S, "group_two_members", "b's sync: ", Nothing.SILENT, SOMETHING, "A call that waits when its member",
        "a caller that waits for ever helps nobody",
    ),
    Difference(
        FIND, "group_coordinators", "*.error_message", SOMETHING, SOMETHING, "in our words", "the wording is ours",
    ),
]  # fmt: skip
