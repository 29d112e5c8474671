"""What the three ACL APIs have in common as long as there is no authorizer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from broker.kafka.messages import Message
from schemas.kafka.wire import WireError

NO_AUTHORIZER = "No Authorizer is configured."
UNKNOWN = 0
_KINDS = (
    "resource_type", "resource_type_filter", "pattern_type_filter", "resource_pattern_type", "operation",
    "permission_type",
)  # fmt: skip


def refuse_unknown(entries: Iterable[Message]) -> None:
    """Raise WireError, which closes the connection, where a kind is UNKNOWN."""
    for entry in entries:
        for kind in _KINDS:
            if entry.get(kind) == UNKNOWN:
                raise WireError(f"an ACL with {kind} UNKNOWN")
