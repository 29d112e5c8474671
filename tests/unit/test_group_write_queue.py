"""The queue of coordinators' writes says what became of each: NOT_COORDINATOR only where nothing can have been written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from broker.clock import SystemClock
from broker.groups.write_queue import GroupWriteQueue
from catalog.database import CommitUnknown, DatabaseError, Unreachable
from catalog.groups import GroupWrite
from schemas.kafka.errors import ErrorCode
from schemas.settings import Settings


class Store:
    """Fails with each error once, then says that the slot is lost."""

    def __init__(self, errors: list[DatabaseError]) -> None:
        self.errors = errors

    async def apply(self, writes: Sequence[GroupWrite]) -> list[bool]:
        if self.errors:
            raise self.errors.pop(0)
        return [False] * len(writes)


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], ErrorCode.NOT_COORDINATOR),
        ([Unreachable("refused")], ErrorCode.NOT_COORDINATOR),
        ([CommitUnknown("lost"), Unreachable("refused")], ErrorCode.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_a_write_that_may_have_landed_is_not_said_to_be_refused(
    errors: list[DatabaseError], code: ErrorCode
) -> None:
    queue = GroupWriteQueue(Store(errors), SystemClock(), Settings())  # type: ignore[arg-type]
    running = asyncio.create_task(queue.run())
    assert await queue.submit(GroupWrite(1, 1, "group", state="{}")) == code
    running.cancel()
