"""The checker: clean histories have no finding, every planted anomaly is found by the rule it is named for."""

from __future__ import annotations

import random

import pytest

from neve.simulation.anomalies import PLANTS, planted
from neve.simulation.checker import RULES, check
from neve.simulation.history import Ack, History, Listing, Message, Poll, Read, Refusal

KEYS = [("created", 0), ("created", 1), ("appended", 0)]


def clean(seed: int) -> History:
    """A history as a perfect broker would make it: three producers, two consumers that read everything."""
    rng = random.Random(seed)
    history = History(append_time={key: key[0] == "appended" for key in KEYS})
    logs: dict[tuple[str, int], list[Read]] = {key: [] for key in KEYS}
    positions = {(f"consumer-{at}", key): 0 for at in range(2) for key in KEYS}
    numbers: dict[tuple[str, tuple[str, int]], int] = {}
    for turn in range(120):
        now = float(turn)
        producer, key = f"producer-{rng.randrange(3)}", rng.choice(KEYS)
        if turn % 20 == 7:
            value = f"refused:{turn}".encode()
            history.sent(Message(key, value, "bad", turn, 1000 + turn, False, False))
            history.refusals.append(Refusal(now, key, (value,), 87))
            continue
        values = []
        for _count in range(rng.randint(1, 4)):
            number = numbers[producer, key] = numbers.get((producer, key), -1) + 1
            value = f"{producer}:{key}:{number}".encode()
            history.sent(Message(key, value, producer, number, 1000 + turn, producer != "producer-2", True))
            values.append(value)
        log = logs[key]
        base, append_ms = len(log), (5000 + turn if key[0] == "appended" else -1)
        log += [Read(base + at, value, append_ms if append_ms >= 0 else 1000 + turn) for at, value in enumerate(values)]
        if turn % 10:
            history.acked(Ack(now, "agent", key, tuple(values), base, append_ms, 0))
        for consumer in range(2):
            poll(history, logs, positions, f"consumer-{consumer}", rng.choice(KEYS), now)
    for consumer in range(2):
        for key in KEYS:
            poll(history, logs, positions, f"consumer-{consumer}", key, 999.0)
            history.listings.append(Listing(999.0, "end", key, -1, 0, len(logs[key]), history.floor(key)))
            history.listings.append(Listing(999.0, "end", key, -2, 0, 0, history.floor(key)))
    return history


def poll(
    history: History,
    logs: dict[tuple[str, int], list[Read]],
    positions: dict[tuple[str, tuple[str, int]], int],
    process: str,
    key: tuple[str, int],
    now: float,
) -> None:
    at = positions[process, key]
    found = tuple(logs[key][at:])
    history.polled(Poll(now, process, process, key, at, 0, len(logs[key]), 0, found, history.floor(key)))
    positions[process, key] = at + len(found)


@pytest.mark.parametrize("seed", range(20))
def test_a_clean_history_has_no_finding(seed: int) -> None:
    verdict = check(clean(seed))
    assert verdict.findings == []
    assert [rule for rule, judged in verdict.judged.items() if not judged] == []


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(8))
def test_every_rule_finds_its_anomaly(rule: str, seed: int) -> None:
    history = planted(clean(seed), rule, seed)
    assert history is not None
    assert rule in [finding.rule for finding in check(history).findings]


def test_planting_leaves_the_original_clean() -> None:
    history = clean(1)
    for rule in PLANTS:
        planted(history, rule, 1)
    assert check(history).findings == []
    assert list(PLANTS) == list(RULES)


def test_a_duplicate_without_idempotence_is_allowed() -> None:
    history = clean(3)
    plain = next(
        (poll, record)
        for poll in history.polls
        for record in poll.records
        if not history.messages[record.value].idempotent
    )
    end = max(record.offset for poll in history.polls if poll.key == plain[0].key for record in poll.records) + 1
    again = plain[1]._replace(offset=end)
    if plain[0].key[0] == "appended":
        again = again._replace(timestamp=10_000)
    history.polls.append(
        plain[0]._replace(process="late", asked=end, records=(again,), high_watermark=end + 1, time=1000.0)
    )
    assert [finding for finding in check(history).findings if finding.rule == "duplicate"] == []
