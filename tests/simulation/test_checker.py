"""The checker: clean histories have no finding, every planted anomaly is found by the rule it is named for."""

from __future__ import annotations

import random

import pytest

from neve.simulation.anomalies import PLANTS, planted
from neve.simulation.checker import RULES, check
from neve.simulation.group_anomalies import GROUP_PLANTS
from neve.simulation.group_history import UNKNOWN, Commit, Committed, Landed, Settling, Synced
from neve.simulation.group_rules import GROUP_RULES
from neve.simulation.history import Ack, Deletion, History, Listing, Message, Poll, Read, Refusal

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
            history.listings.append(Listing(999.0, "end", key, -2, 0, 0, 0))
    add_group(history, logs)
    delete_first(history, logs, KEYS[0])
    return history


def delete_first(history: History, logs: dict[tuple[str, int], list[Read]], key: tuple[str, int]) -> None:
    """The first record is deleted at the end, and the agent that said so tells the new log start."""
    history.starts = {each: int(each == key) for each in KEYS}
    history.wants_deleted(key, 1)
    history.deleted(Deletion(2000.0, "agent", key, 1, 1, 0))
    rest = tuple(logs[key][1:])
    history.polled(Poll(2001.0, "late", "late", key, 1, 0, len(logs[key]), 1, rest, 0, start_floor=1))


def add_group(history: History, logs: dict[tuple[str, int], list[Read]]) -> None:
    """Two members of one group: each generation they trade partitions, read half of what is left, and commit twice."""
    groups = history.groups
    committed = dict.fromkeys(KEYS, (0, ""))
    time = 1000.0
    for generation in range(1, 5):
        owned = {
            f"member-{at}": [key for number, key in enumerate(KEYS) if (number + generation) % 2 == at]
            for at in range(2)
        }
        for member, keys in owned.items():
            time += 1
            groups.synced.append(Synced(time, "group", generation, member, tuple(sorted(keys))))
            for key in keys:
                at, mark = committed[key]
                groups.committed.append(Committed(time, time + 0.1, "group", key, at if mark else -1, mark))
                for part in range(2):
                    time += 1
                    left = logs[key][at:]
                    records = tuple(left if generation == 4 else left[: len(left) // 3 + 1])
                    process = f"{member}.{generation}"
                    history.polled(
                        Poll(time, process, member, key, at, 0, len(logs[key]), 0, records, 0, group="group")
                    )
                    at += len(records)
                    mark = f"{process}#{key}{part}"
                    groups.commits[mark] = Commit(
                        mark, "group", process, generation, time + 0.2, ((key, at),), time + 0.4, 0
                    )
                    groups.landed.append(Landed(int(time * 1000) + 300, "group", key, at, mark))
                committed[key] = at, mark
        late = f"late#{generation}"
        groups.commits[late] = Commit(late, "group", "gone.1", generation - 1, time, ((KEYS[0], 0),), time + 0.1, 22)
    groups.settlings.append(Settling("group", 3.0, 60.0, ""))


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


@pytest.mark.parametrize("rule", [*RULES, *GROUP_RULES])
@pytest.mark.parametrize("seed", range(8))
def test_every_rule_finds_its_anomaly(rule: str, seed: int) -> None:
    history = planted(clean(seed), rule, seed)
    assert history is not None
    assert rule in [finding.rule for finding in check(history).findings]


def test_planting_leaves_the_original_clean() -> None:
    history = clean(1)
    for rule in (*PLANTS, *GROUP_PLANTS):
        planted(history, rule, 1)
    assert check(history).findings == []
    assert list(PLANTS) == list(RULES)
    assert list(GROUP_PLANTS) == list(GROUP_RULES)


def test_a_commit_without_an_answer_may_be_overtaken_by_the_same_member_alone() -> None:
    history = clean(2)
    at = next(at for at, landed in enumerate(history.groups.landed) if landed.offset > 1)
    landed = history.groups.landed[at]
    sent = history.groups.commits[landed.mark]
    unanswered = Commit("early", "group", sent.process, sent.generation, sent.sent - 0.1, ((landed.key, 1),))
    assert unanswered.error == UNKNOWN
    history.groups.commits["early"] = unanswered
    late = landed._replace(ms=landed.ms + 10, offset=1, mark="early")
    history.groups.landed[at + 1 : at + 1] = [late, landed._replace(ms=landed.ms + 20)]
    rules = [finding.rule for finding in check(history).findings]
    assert "committed_back" not in rules
    history.groups.commits["early"] = Commit("early", "group", "other.1", 9, sent.sent, ((landed.key, 1),))
    assert "committed_back" in [finding.rule for finding in check(history).findings]


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
