"""The register of cases: each asks one broker, in order, and yields what it saw by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.parity.broker import Broker, Observations

Case = Callable[[Broker], Observations]
CASES: dict[str, Case] = {}


def case(run: Case) -> Case:
    """Register a case under its function's name."""
    name = run.__name__
    assert name not in CASES, name
    CASES[name] = run
    return run
