"""What group members' histories may not contain: one rule per anomaly, each counting how many facts it judged.

The order of commits is that of the database. The clients' own protocol allows one thing: a request whose answer was lost
may be overtaken by a later one of the same member in the same generation, because it went over another connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from neve.simulation.group_history import UNKNOWN, GroupHistory, Key, Landed
from neve.simulation.history import History

NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID = 16, 22, 25, 82
REBALANCING, GROUP_ID_NOT_FOUND = 27, 69
FENCED = (
    NOT_COORDINATOR,
    ILLEGAL_GENERATION,
    UNKNOWN_MEMBER_ID,
    REBALANCING,
    GROUP_ID_NOT_FOUND,
    FENCED_INSTANCE_ID,
)
Line = tuple[str, Key]


@dataclass
class GroupIndex:
    """What the rules look things up in. `known`: the offsets of each key that must still be there."""

    groups: GroupHistory
    judged: dict[str, int]
    known: dict[Key, list[int]]
    consumed: dict[str, dict[Key, dict[int, None]]]
    """group -> key -> offsets that its members read."""
    landed: dict[Line, list[Landed]]
    """(group, key) -> what was written, in order."""

    @classmethod
    def of(cls, history: History, known: dict[Key, list[int]]) -> GroupIndex:
        """Build the index."""
        index = cls(history.groups, dict.fromkeys(GROUP_RULES, 0), known, {}, {})
        for landed in history.groups.landed:
            index.landed.setdefault((landed.group, landed.key), []).append(landed)
        for poll in history.polls:
            if poll.group:
                offsets = index.consumed.setdefault(poll.group, {}).setdefault(poll.key, {})
                offsets.update(dict.fromkeys(record.offset for record in poll.records))
        return index


def two_owners(index: GroupIndex) -> Iterator[str]:
    """A partition was given to two members of one generation, or a member was told two assignments in it."""
    owners: dict[tuple[str, int, Key], str] = {}
    told: dict[tuple[str, int, str], tuple[Key, ...]] = {}
    for synced in index.groups.synced:
        index.judged["two_owners"] += 1
        place = f"group {synced.group} generation {synced.generation}"
        if told.setdefault((synced.group, synced.generation, synced.owner), synced.keys) != synced.keys:
            yield f"{place}: {synced.owner} was told another assignment than before: {synced.keys}"
        for key in synced.keys:
            owner = owners.setdefault((synced.group, synced.generation, key), synced.owner)
            if owner != synced.owner:
                yield f"{place}: {key} belongs to {owner} and to {synced.owner}"


def committed_back(index: GroupIndex) -> Iterator[str]:
    """A committed offset was replaced by a lower one."""
    commits = index.groups.commits
    for (group, key), line in index.landed.items():
        for before, after in pairwise(line):
            index.judged["committed_back"] += 1
            if after.offset >= before.offset:
                continue
            first, second = commits.get(before.mark), commits.get(after.mark)
            overtaken = (
                first is not None
                and second is not None
                and (first.process, first.generation) == (second.process, second.generation)
                and UNKNOWN in (first.error, second.error)
            )
            if not overtaken:
                yield f"group {group} {key}: {before.offset} of {before.mark}, then {after.offset} of {after.mark}"


def commit_lost(index: GroupIndex) -> Iterator[str]:
    """A commit was acknowledged and isn't in the database, or only since later."""
    first: dict[tuple[str, Key, int], int] = {}
    for landed in index.groups.landed:
        first.setdefault((landed.mark, landed.key, landed.offset), landed.ms)
    for commit in index.groups.commits.values():
        if commit.error:
            continue
        for key, offset in commit.offsets:
            index.judged["commit_lost"] += 1
            at_ms = first.get((commit.mark, key, offset))
            if at_ms is None or at_ms > commit.answered * 1000:
                yield f"group {commit.group} {key}: {offset} of {commit.mark} was acknowledged and landed at {at_ms} ms"


def stale_committed(index: GroupIndex) -> Iterator[str]:
    """OffsetFetch answered what wasn't the committed offset at any moment between question and answer."""
    for fetched in index.groups.committed:
        index.judged["stale_committed"] += 1
        line = index.landed.get((fetched.group, fetched.key), [])
        before = sum(1 for landed in line if landed.ms + 1 <= fetched.sent * 1000)
        until = sum(1 for landed in line if landed.ms <= fetched.answered * 1000)
        allowed = [(landed.offset, landed.mark) for landed in line[max(before - 1, 0) : until]]
        if not before:
            allowed.append((-1, ""))
        if (fetched.offset, fetched.mark) not in allowed:
            yield f"group {fetched.group} {fetched.key}: told {fetched.offset} of {fetched.mark!r}, committed was {allowed}"


def fenced_commit(index: GroupIndex) -> Iterator[str]:
    """A commit was refused because of who sent it, or where to, and took effect."""
    landed = {each.mark: each for each in index.groups.landed}
    for commit in index.groups.commits.values():
        index.judged["fenced_commit"] += commit.error in FENCED
        if commit.error in FENCED and commit.mark in landed:
            yield f"group {commit.group}: {commit.mark} was refused with {commit.error} and landed: {landed[commit.mark]}"


def old_generation(index: GroupIndex) -> Iterator[str]:
    """A commit was acknowledged although a newer generation was known before it was sent."""
    groups = index.groups
    for commit in groups.commits.values():
        if commit.error:
            continue
        index.judged["old_generation"] += 1
        newer = [
            synced.generation
            for synced in groups.synced
            if synced.group == commit.group and synced.generation > commit.generation and synced.time < commit.sent
        ]
        if newer:
            yield f"group {commit.group}: {commit.mark} of generation {commit.generation} was taken, {newer[0]} had begun"


def unsettled(index: GroupIndex) -> Iterator[str]:
    """A group didn't come to rest: all its partitions owned, everything read and committed."""
    for settling in index.groups.settlings:
        index.judged["unsettled"] += 1
        if settling.seconds > settling.bound:
            yield f"group {settling.group} isn't settled after {settling.seconds:.0f} s: {settling.state}"


def unconsumed(index: GroupIndex) -> Iterator[str]:
    """A record that no member of the group ever read."""
    for group in dict.fromkeys(settling.group for settling in index.groups.settlings):
        consumed = index.consumed.get(group, {})
        for key, offsets in index.known.items():
            read = consumed.get(key, {})
            index.judged["unconsumed"] += len(offsets)
            missing = [offset for offset in offsets if offset not in read]
            if missing:
                yield f"group {group} {key}: offsets {missing[:5]} of {len(offsets)} were never consumed"


NEED_LANDINGS = ("committed_back", "commit_lost", "stale_committed", "fenced_commit")
"""Rules that compare with what the database wrote: not to be judged where nobody looked into it."""
GROUP_RULES: dict[str, Callable[[GroupIndex], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        two_owners,
        committed_back,
        commit_lost,
        stale_committed,
        fenced_commit,
        old_generation,
        unsettled,
        unconsumed,
    )
}
