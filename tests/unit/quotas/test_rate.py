"""Windows, and the time until a rate is back at its limit."""

from __future__ import annotations

import pytest

from broker.quotas.rate import THROTTLE_MS_MAX, WindowedRate

NOW = 5_000_000.0


def rate(*amounts: tuple[float, float], count: int = 11, window_ms: int = 1000) -> WindowedRate:
    """What was recorded: (amount, ms after NOW)."""
    windowed = WindowedRate(count, window_ms)
    for amount, at in amounts:
        windowed.record(amount, NOW + at)
    return windowed


def test_an_idle_client_may_use_all_windows_but_one_at_once() -> None:
    assert rate((1000, 0)).throttle_ms(100, NOW) == 0
    assert rate((1001, 0)).throttle_ms(100, NOW) == 10
    assert rate((2000, 0)).throttle_ms(100, NOW) == 10_000


def test_after_the_wait_the_rate_is_the_limit() -> None:
    windowed = rate((1500, 0))
    wait_ms = windowed.throttle_ms(100, NOW)
    assert wait_ms == 5000
    assert windowed.throttle_ms(100, NOW + 10_000 + wait_ms) == 0


def test_the_elapsed_time_counts_once_it_is_longer_than_the_windows_but_one() -> None:
    windowed = rate((1000, 0), (1000, 10_500))
    assert windowed.throttle_ms(100, NOW + 10_500) == round((2000 / 10.5 - 100) / 100 * 10_500)


def test_a_window_is_forgotten_after_its_time() -> None:
    windowed = rate((5000, 0))
    assert windowed.throttle_ms(100, NOW + 10_999) > 0
    assert not windowed.idle(NOW + 10_999)
    assert windowed.throttle_ms(100, NOW + 11_000) == 0
    assert windowed.idle(NOW + 11_000)


def test_amounts_within_a_window_share_it() -> None:
    windowed = rate(*((100, 10 * at) for at in range(100)))
    assert windowed.throttle_ms(1000, NOW + 990) == 0
    windowed.record(0, NOW + 1000)
    assert windowed.throttle_ms(1000, NOW + 10_999) == 0
    assert windowed.throttle_ms(900, NOW + 10_000) > 0
    assert windowed.throttle_ms(900, NOW + 11_000) == 0, "the first window is forgotten with all that is in it"


def test_what_is_taken_back_was_never_there() -> None:
    windowed = rate((1000, 0), (700, 100), (-700, 100))
    assert windowed.throttle_ms(100, NOW + 100) == 0


@pytest.mark.parametrize("limit", [1e-9, 0.0])
def test_the_longest_wait_fits_the_response(limit: float) -> None:
    assert rate((1e12, 0)).throttle_ms(limit, NOW) == THROTTLE_MS_MAX


def test_a_client_that_waits_as_told_is_held_to_its_limit() -> None:
    windowed = WindowedRate(11, 1000)
    now = NOW
    sent: list[tuple[float, int]] = []
    while now < NOW + 100_000:
        windowed.record(40, now)
        sent.append((now, 40))
        now += max(windowed.throttle_ms(100, now), 1)
    assert sum(amount for at, amount in sent if at < NOW + 1000) == pytest.approx(1000, abs=200), "an idle client's"
    assert sum(amount for at, amount in sent if at >= NOW + 20_000) == pytest.approx(80 * 100, rel=0.05)
