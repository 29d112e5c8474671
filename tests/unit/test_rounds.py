"""The loop of background work: an unreachable database ends a round, a failure of the program the loop."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from broker.rounds import repeat
from catalog.database import Unreachable


async def test_a_round_without_database_is_followed_by_the_next() -> None:
    rounds: list[int] = []

    async def work() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 2:
            raise Unreachable("no database")
        if len(rounds) == 4:
            raise ZeroDivisionError

    with capture_logs() as logs, pytest.raises(ZeroDivisionError):
        await repeat(work, interval_s=0, failure="things could not be polled")
    assert rounds == [0, 1, 2, 3]
    assert logs == [{"event": "things could not be polled", "error": "no database", "log_level": "warning"}]
