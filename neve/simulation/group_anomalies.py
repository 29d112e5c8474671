"""Anomalies planted into a clean history's groups, one kind per rule of `group_rules`."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from neve.simulation.group_history import Commit, Committed, Landed
from neve.simulation.group_rules import FENCED, GROUP_RULES
from neve.simulation.history import History

Plant = Callable[[History, random.Random], bool]


def _acked(history: History) -> list[Commit]:
    return [commit for commit in history.groups.commits.values() if not commit.error and commit.offsets]


def two_owners(history: History, rng: random.Random) -> bool:
    """A second member is told the same assignment in the same generation."""
    found = [synced for synced in history.groups.synced if synced.keys]
    if found:
        synced = rng.choice(found)
        history.groups.synced.append(synced._replace(owner="planted", keys=synced.keys[:1]))
    return bool(found)


def committed_back(history: History, rng: random.Random) -> bool:
    """One offset lower lands after an acknowledged commit, from somewhere else."""
    landed = history.groups.landed
    found = [at for at, each in enumerate(landed) if each.offset > 0]
    if found:
        at = rng.choice(found)
        landed.insert(at + 1, landed[at]._replace(offset=landed[at].offset - 1, mark="planted"))
    return bool(found)


def commit_lost(history: History, rng: random.Random) -> bool:
    """An acknowledged commit never landed."""
    found = _acked(history)
    if found:
        mark = rng.choice(found).mark
        history.groups.landed = [each for each in history.groups.landed if each.mark != mark]
    return bool(found)


def stale_committed(history: History, rng: random.Random) -> bool:
    """OffsetFetch answers the commit before the last one."""
    lines: dict[tuple[str, str], list[Landed]] = {}
    for landed in history.groups.landed:
        lines.setdefault((landed.group, str(landed.key)), []).append(landed)
    choices = [line for _name, line in sorted(lines.items()) if line[0].offset != line[-1].offset]
    if not choices:
        return False
    line = rng.choice(choices)
    end_s = line[-1].ms / 1000 + 1
    old = line[0]
    history.groups.committed.append(Committed(end_s, end_s, old.group, old.key, old.offset, old.mark))
    return True


def fenced_commit(history: History, rng: random.Random) -> bool:
    """A commit that landed was refused."""
    landed = {each.mark: None for each in history.groups.landed}
    found = [commit for commit in _acked(history) if commit.mark in landed]
    if found:
        commit = rng.choice(found)
        history.groups.commits[commit.mark] = replace(commit, error=rng.choice(FENCED))
    return bool(found)


def old_generation(history: History, rng: random.Random) -> bool:
    """The next generation had begun long before a commit."""
    found = _acked(history)
    if found and history.groups.synced:
        commit = rng.choice(found)
        early = history.groups.synced[0]._replace(
            time=commit.sent - 1, group=commit.group, generation=commit.generation + 1, owner="planted", keys=()
        )
        history.groups.synced.insert(0, early)
        return True
    return False


def unsettled(history: History, rng: random.Random) -> bool:
    """A group took longer than it may."""
    settlings = history.groups.settlings
    if settlings:
        at = rng.randrange(len(settlings))
        settlings[at] = settlings[at]._replace(seconds=settlings[at].bound + 1)
    return bool(settlings)


def unconsumed(history: History, rng: random.Random) -> bool:
    """One record is taken out of all polls of a group."""
    found = [
        (poll.group, poll.key, record.offset)
        for poll in history.polls
        if poll.group
        for record in poll.records
        if record.offset >= history.start(poll.key)
    ]
    if not found or not history.groups.settlings:
        return False
    group, key, offset = rng.choice(found)
    for at, poll in enumerate(history.polls):
        if (poll.group, poll.key) == (group, key):
            kept = tuple(record for record in poll.records if record.offset != offset)
            history.polls[at] = poll._replace(records=kept)
    return True


GROUP_PLANTS: dict[str, Plant] = {rule: globals()[rule] for rule in GROUP_RULES}
"""Each is named after the rule that must find it; a rule without one fails here."""
