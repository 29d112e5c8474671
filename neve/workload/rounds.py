"""From one round's history to the next: what clients go on knowing, and nothing of the messages that were judged."""

from __future__ import annotations

from neve.simulation.history import History, Poll


def following(history: History) -> History:
    """A new round behind `history`: the same keys, floors and log starts, and where each connection had seen the watermarks."""
    new = History(dict(history.append_time))
    new.floors = dict(history.floors)
    new.start_floors = dict(history.start_floors)
    new.agent_starts = dict(history.agent_starts)
    new.unbounded = dict(history.unbounded)
    new.groups.landings_known = False
    last: dict[tuple[str, object], Poll] = {}
    for poll in history.polls:
        if not poll.error:
            last[poll.connection, poll.key] = poll
    new.polls = [
        poll._replace(records=(), batches=0, corrupt=0, start_floor=0, floor=0, group="") for poll in last.values()
    ]
    return new
