"""How a group rebalances: preparing, completing the join, giving up on members that don't sync, losing members. Pure.

A first generation waits `group.initial.rebalance.delay.ms`, again for each newcomer, up to the members' rebalance
timeout. Later ones wait until everybody has joined again, at most the rebalance timeout; who didn't make it is dropped,
except static members, whom only their session's end removes. Then everybody must sync within the rebalance timeout.

The rebalance timeout is armed once per rebalance, when it begins or its first wait does: a member that goes on sending
heartbeats without joining can't hold the others up for longer, however often those join anew.
"""

from __future__ import annotations

from broker.groups.group import Group, Member
from broker.groups.requests import Now, Store, SyncReply
from broker.groups.states import Cause, State
from broker.groups.stored import dump_group
from schemas.kafka.errors import ErrorCode

JOIN = ("join", "")
SYNC = ("sync", "")
UNTRACKED = 0
"""Number of a write whose outcome changes nothing."""


def rebalance_or_try(group: Group, now: Now) -> None:
    """Begin a rebalance, or complete the one that is being prepared if this was the last member missing."""
    if group.state is State.PREPARING:
        try_complete(group, now)
    else:
        prepare(group, now)


def prepare(group: Group, now: Now) -> None:
    """Begin a rebalance: whoever waits for an assignment is told to join again."""
    if group.state is State.COMPLETING:
        reset_assignments(group, ErrorCode.REBALANCE_IN_PROGRESS, now)
    group.timers.drop(SYNC)
    group.initial = group.state is State.EMPTY
    group.move(Cause.REBALANCE, now.wall_ms)
    if group.initial:
        group.newcomer = False
        group.initial_delay_ms = group.limits.initial_delay_ms
        group.initial_left_ms = max(group.rebalance_ms() - group.initial_delay_ms, 0)
        group.timers.set(JOIN, now.ms + group.initial_delay_ms)
    else:
        try_complete(group, now)


def reset_assignments(group: Group, error: int, now: Now) -> None:
    """Take all assignments back; who waits for one is answered with `error`."""
    for member in group.members.values():
        member.assignment = b""
        if member.sync is not None:
            answer_sync(group, member, SyncReply(error), now)


def answer_sync(group: Group, member: Member, answer: SyncReply, now: Now) -> None:
    """Answer a parked SyncGroup; the member's session begins anew."""
    group.reply(member.sync, answer)
    member.sync = None
    group.alive(member, now.ms)


def try_complete(group: Group, now: Now) -> None:
    """Complete the join when all have joined; the first generation waits for its delay all the same."""
    if group.state is not State.PREPARING or group.initial:
        return
    if group.all_joined():
        complete_join(group, now)
    elif JOIN not in group.timers:
        group.timers.set(JOIN, now.ms + group.rebalance_ms())


def join_due(group: Group, now: Now) -> None:
    """The join's timer: extend the initial delay for newcomers, or complete with those who are there."""
    if group.initial and group.newcomer and group.initial_left_ms:
        group.newcomer = False
        delay_ms = min(group.limits.initial_delay_ms, group.initial_left_ms)
        group.initial_left_ms = max(group.initial_left_ms - group.initial_delay_ms, 0)
        group.initial_delay_ms = delay_ms
        group.timers.set(JOIN, now.ms + delay_ms)
    else:
        complete_join(group, now)


def complete_join(group: Group, now: Now) -> None:
    """Begin the next generation with everybody who has joined."""
    group.timers.drop(JOIN)
    lost = [m.member_id for m in group.members.values() if m.join is None and m.instance_id is None]
    for member_id in lost:
        group.remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
    if group.members and not group.elect():
        # Only static members are left and none has joined: wait until they do or their sessions end.
        group.timers.set(JOIN, now.ms + group.rebalance_ms())
        return
    group.generation += 1
    group.unsynced.clear()
    group.initial = False
    if not group.members:
        group.protocol = None
        group.move(Cause.EMPTIED, now.wall_ms)
        group.out.append(Store(UNTRACKED, dump_group(group)))
        return
    group.protocol = group.select_protocol()
    group.move(Cause.JOINED, now.wall_ms)
    for member in group.members.values():
        group.answer_join(member, group.join_reply(member))
        member.is_new = False
        group.alive(member, now.ms)
        group.unsynced[member.member_id] = None
    group.timers.set(SYNC, now.ms + group.rebalance_ms())


def sync_due(group: Group, now: Now) -> None:
    """Members that didn't ask for their assignment in time are dropped, and the others begin again."""
    if group.state not in (State.COMPLETING, State.STABLE) or not group.unsynced:
        return
    for member_id in list(group.unsynced):
        group.remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
    prepare(group, now)


def session_due(group: Group, member_id: str, now: Now) -> None:
    """A session has ended. Who waits in a JoinGroup or SyncGroup is alive, unless it was never heard of again since its first."""
    if member_id in group.pending:
        group.remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
        try_complete(group, now)
        return
    member = group.members.get(member_id)
    if member is None:
        return
    if not member.is_new and (member.join is not None or member.sync is not None):
        return
    group.remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
    after_removal(group, now)


def after_removal(group: Group, now: Now) -> None:
    """What losing a member means for the others."""
    if group.state in (State.COMPLETING, State.STABLE):
        prepare(group, now)
    else:
        try_complete(group, now)
