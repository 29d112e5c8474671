"""What is answered where no machine can be asked: not the coordinator, still loading, or no such group. Pure."""

from __future__ import annotations

from broker.groups.requests import (
    Answer,
    Commit,
    Delete,
    GroupLimits,
    Heartbeat,
    Join,
    JoinReply,
    Leave,
    LeaveReply,
    Request,
    Sync,
    SyncReply,
)
from schemas.kafka.errors import ErrorCode


def refused(request: Request, error: ErrorCode) -> Answer:
    """The answer that carries this error."""
    match request:
        case Join():
            return JoinReply(error, request.member_id)
        case Sync():
            return SyncReply(error)
        case Leave():
            return LeaveReply(error)
        case _:
            return error


def while_loading(request: Request) -> Answer:
    """Members' sessions begin anew once the group is loaded, so a heartbeat is fine; a sync means joining again."""
    match request:
        case Heartbeat():
            return ErrorCode.NONE
        case Sync():
            return SyncReply(ErrorCode.REBALANCE_IN_PROGRESS)
        case _:
            return refused(request, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


def unknown_group(request: Request, limits: GroupLimits) -> Answer | None:
    """The answer where there is no such group; None for requests that make one."""
    match request:
        case Join():
            if not limits.session_min_ms <= request.session_ms <= limits.session_max_ms:
                return JoinReply(ErrorCode.INVALID_SESSION_TIMEOUT, request.member_id)
            return JoinReply(ErrorCode.UNKNOWN_MEMBER_ID, request.member_id) if request.member_id else None
        case Commit():
            return None if request.generation < 0 else ErrorCode.GROUP_ID_NOT_FOUND
        case Leave():
            return LeaveReply(0, (ErrorCode.UNKNOWN_MEMBER_ID,) * len(request.members))
        case Delete():
            return ErrorCode.GROUP_ID_NOT_FOUND
        case _:
            return refused(request, ErrorCode.UNKNOWN_MEMBER_ID)
