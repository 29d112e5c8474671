"""The classic consumer group as a state machine: requests, outcomes of writes and a clock in; replies, timers and writes out. Pure.

Each request is first checked (who it is, which generation), then `states.RULES` says what it does in the group's state.
A group keeps its deadlines itself (`timers`); the shell sleeps and calls `tick`. What has to survive the coordinator is
written before anybody is told of it: an assignment before members get it, a static member's new id before its owner.

Invariants: a generation never goes back; whoever is parked is answered once; an assignment is given only in the
generation it was made for.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.groups.group import Group, Member
from broker.groups.join import join
from broker.groups.rebalance import (
    JOIN,
    SYNC,
    answer_sync,
    join_due,
    prepare,
    reset_assignments,
    session_due,
    sync_due,
    try_complete,
)
from broker.groups.replace import Replaced, replacement_stored
from broker.groups.requests import (
    Commit,
    Delete,
    Effect,
    GroupLimits,
    Heartbeat,
    Join,
    JoinReply,
    Leave,
    LeaveReply,
    Now,
    Request,
    Store,
    Sync,
    SyncReply,
    Token,
)
from broker.groups.states import Cause, Kind, Rule, State
from broker.groups.stored import dump_group, load_group
from broker.groups.validate import check_commit, check_generation, check_member
from schemas.kafka.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Assigned:
    """An assignment on its way to the database."""

    generation: int
    assignments: dict[str, bytes]


class ClassicGroup:
    """The machine of one group. Every method returns the effects, in the order they are to happen."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self._writes: dict[int, Assigned | Replaced] = {}
        self._write_last = 0

    @classmethod
    def empty(cls, group_id: str, limits: GroupLimits, now: Now) -> ClassicGroup:
        """A group that nobody has joined yet."""
        return cls(Group(group_id, limits, now.wall_ms))

    @classmethod
    def restored(cls, group_id: str, state: str, limits: GroupLimits, now: Now) -> tuple[ClassicGroup, list[Effect]]:
        """The group as the last coordinator stored it: every session begins anew; one over the size limit rebalances."""
        machine = cls(load_group(group_id, state, limits))
        for member in machine.group.members.values():
            machine.group.alive(member, now.ms)
        if len(machine.group.members) > limits.size_max:
            prepare(machine.group, now)
        return machine, machine._take()

    def handle(self, request: Request, token: Token, now: Now) -> list[Effect]:
        """One request. It is answered among the effects, or later with the same token."""
        match request:
            case Join():
                self._join(request, token, now)
            case Sync():
                self._sync(request, token, now)
            case Heartbeat():
                self._heartbeat(request, token, now)
            case Leave():
                self._leave(request, token, now)
            case Commit():
                self._commit(request, token, now)
            case Delete():
                self._delete(token, now)
        return self._take()

    def tick(self, now: Now) -> list[Effect]:
        """Do what is due."""
        group = self.group
        for key in group.timers.due(now.ms):
            if not group.timers.take(key, now.ms):
                continue
            if key == JOIN:
                join_due(group, now)
            elif key == SYNC:
                sync_due(group, now)
            else:
                session_due(group, key[1], now)
        group.timers.due(now.ms)
        return self._take()

    def stored(self, write: int, error: int, now: Now) -> list[Effect]:
        """A write has ended; `error` is a Kafka code, 0 where it is stored."""
        what = self._writes.pop(write, None)
        if isinstance(what, Assigned):
            self._assignment_stored(what, error, now)
        elif what is not None:
            replacement_stored(self.group, what, error, now)
        return self._take()

    def retire(self, error: int, now: Now) -> list[Effect]:
        """This coordinator is no longer the group's: answer whoever waits with `error`, forget all timers."""
        group = self.group
        for member in group.members.values():
            group.answer_join(member, JoinReply(error, member.member_id))
            group.reply(member.sync, SyncReply(error))
            member.sync = None
        if group.state is not State.DEAD:
            group.move(Cause.GONE, now.wall_ms)
        group.timers.clear()
        self._writes.clear()
        return self._take()

    def _take(self) -> list[Effect]:
        out, self.group.out = self.group.out, []
        return out

    def _write(self, what: Assigned | Replaced, state: str) -> None:
        self._write_last += 1
        self._writes[self._write_last] = what
        self.group.out.append(Store(self._write_last, state))

    # JoinGroup

    def _join(self, request: Join, token: Token, now: Now) -> None:
        replaced = join(self.group, request, token, now)
        if replaced is not None:
            self._write(replaced, dump_group(self.group))

    # SyncGroup

    def _sync(self, request: Sync, token: Token, now: Now) -> None:
        group = self.group
        error = check_generation(group, request.member_id, request.instance_id, request.generation)
        if not error and (
            request.protocol_type not in (None, group.protocol_type) or request.protocol not in (None, group.protocol)
        ):
            error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if error:
            group.reply(token, SyncReply(error))
            return
        match group.rule(Kind.SYNC):
            case Rule.PARK_SYNC:
                self._park_sync(group.members[request.member_id], request, token)
            case Rule.ASSIGNMENT:
                member = group.members[request.member_id]
                self._synced(member)
                group.alive(member, now.ms)
                group.reply(token, SyncReply(0, group.protocol_type, group.protocol, member.assignment))
            case Rule.REBALANCING:
                group.reply(token, SyncReply(ErrorCode.REBALANCE_IN_PROGRESS))
            case _:
                group.reply(token, SyncReply(ErrorCode.UNKNOWN_MEMBER_ID))

    def _park_sync(self, member: Member, request: Sync, token: Token) -> None:
        group = self.group
        # A second call of one member means that the first one's connection is gone.
        group.reply(member.sync, SyncReply(ErrorCode.REBALANCE_IN_PROGRESS))
        member.sync = token
        self._synced(member)
        if group.leader == member.member_id:
            given = dict(request.assignments)
            assignments = {member_id: given.get(member_id, b"") for member_id in group.members}
            self._write(Assigned(group.generation, assignments), dump_group(group, assignments))

    def _synced(self, member: Member) -> None:
        self.group.unsynced.pop(member.member_id, None)
        if not self.group.unsynced:
            self.group.timers.drop(SYNC)

    def _assignment_stored(self, what: Assigned, error: int, now: Now) -> None:
        group = self.group
        if group.state is not State.COMPLETING or group.generation != what.generation:
            return  # a rebalance has begun since; everybody was told
        if error:
            reset_assignments(group, error, now)
            prepare(group, now)
            return
        group.move(Cause.ASSIGNED, now.wall_ms)
        for member in group.members.values():
            member.assignment = what.assignments.get(member.member_id, b"")
            if member.sync is not None:
                answer_sync(group, member, SyncReply(0, group.protocol_type, group.protocol, member.assignment), now)

    # Heartbeat, LeaveGroup

    def _heartbeat(self, request: Heartbeat, token: Token, now: Now) -> None:
        group = self.group
        error = check_generation(group, request.member_id, request.instance_id, request.generation)
        if not error:
            rule = group.rule(Kind.HEARTBEAT)
            if rule is Rule.UNKNOWN:
                error = ErrorCode.UNKNOWN_MEMBER_ID
            else:
                group.alive(group.members[request.member_id], now.ms)
                error = ErrorCode.REBALANCE_IN_PROGRESS if rule is Rule.ALIVE_REBALANCING else ErrorCode.NONE
        group.reply(token, error)

    def _leave(self, request: Leave, token: Token, now: Now) -> None:
        group = self.group
        if group.state is State.DEAD:
            group.reply(token, LeaveReply(ErrorCode.COORDINATOR_NOT_AVAILABLE))
            return
        errors: list[int] = []
        for member_id, instance_id in request.members:
            if not member_id:
                named = group.static.get(instance_id) if instance_id is not None else None
                error = ErrorCode.UNKNOWN_MEMBER_ID if named is None else ErrorCode.NONE
                member_id = named or ""
            elif member_id in group.pending:
                error = ErrorCode.NONE
            else:
                error = check_member(group, member_id, instance_id)
            if not error:
                group.remove(member_id, ErrorCode.UNKNOWN_MEMBER_ID)
            errors.append(error)
        group.reply(token, LeaveReply(0, tuple(errors)))
        if all(errors):
            return
        if group.rule(Kind.LEAVE) is Rule.REBALANCE:
            prepare(group, now)  # also for an id that had only been given out
        else:
            try_complete(group, now)

    # OffsetCommit, DeleteGroups

    def _commit(self, request: Commit, token: Token, now: Now) -> None:
        group = self.group
        error = check_commit(group, request)
        if not error and group.rule(Kind.COMMIT) is Rule.ACCEPT_ALIVE:
            member = group.members.get(request.member_id)
            if member is not None and member.join is None:
                group.alive(member, now.ms)
        group.reply(token, error)

    def _delete(self, token: Token, now: Now) -> None:
        group = self.group
        match group.rule(Kind.DELETE):
            case Rule.DELETE:
                group.move(Cause.GONE, now.wall_ms)
                group.timers.clear()
                group.reply(token, ErrorCode.NONE)
            case Rule.NOT_EMPTY:
                group.reply(token, ErrorCode.NON_EMPTY_GROUP)
            case _:
                group.reply(token, ErrorCode.GROUP_ID_NOT_FOUND)
