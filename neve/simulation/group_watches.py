"""Watches over groups inside the database: a record of every committed offset in real order, and what may never be written.

A commit's metadata says in which generation (`$.g`) and at which agent (`$.a`) it was made, so that one written by a
coordinator that isn't it any more, or after its generation, is seen at the moment it happens.
"""

from __future__ import annotations

GROUP_RECORD = (
    "CREATE TEMP TABLE group_landings (seq INTEGER PRIMARY KEY, at_ms INTEGER, group_id TEXT, topic INTEGER,"
    " shard INTEGER, committed_offset INTEGER, metadata BLOB)",
    *(
        f"CREATE TEMP TRIGGER record_{event.lower()} AFTER {event} ON main.group_offsets BEGIN INSERT INTO group_landings"
        " (at_ms, group_id, topic, shard, committed_offset, metadata) VALUES (neve_now_ms(), NEW.group_id, NEW.topic,"
        " NEW.shard, NEW.committed_offset, NEW.metadata); END"
        for event in ("INSERT", "UPDATE")
    ),
)
"""Statements that begin the record."""

_SAYS = "json_extract(CAST(NEW.metadata AS TEXT), '$.{}')"
_COMMIT = "NEW.group_id || ' offset ' || NEW.committed_offset || ' ' || CAST(NEW.metadata AS TEXT)"
GROUP_WATCHES = {
    "old_generation_landed": (
        "AFTER INSERT ON temp.group_landings",
        "EXISTS (SELECT 1 FROM main.consumer_groups g WHERE g.group_id = NEW.group_id"
        f" AND json_extract(g.state, '$.generation') > {_SAYS.format('g')})",
        f"'group ' || {_COMMIT} || ' landed in a later generation'",
    ),
    "zombie_commit": (
        "AFTER INSERT ON temp.group_landings",
        "EXISTS (SELECT 1 FROM main.consumer_groups g JOIN main.group_slots s ON s.slot = g.slot"
        " LEFT JOIN main.agents a ON a.instance = s.holder WHERE g.group_id = NEW.group_id"
        f" AND (s.lease_until_ms <= neve_now_ms() OR a.host <> {_SAYS.format('a')}))",
        f"'group ' || {_COMMIT} || ' was written by an agent that does not hold the slot'",
    ),
    "group_generation_back": (
        "AFTER UPDATE ON main.consumer_groups",
        "json_extract(NEW.state, '$.generation') < json_extract(OLD.state, '$.generation')",
        "'group ' || NEW.group_id || ': ' || OLD.state || ', then ' || NEW.state",
    ),
    "slot_epoch_back": (
        "AFTER UPDATE OF holder, epoch ON main.group_slots",
        "NEW.epoch < OLD.epoch OR (NEW.holder <> OLD.holder AND (NEW.epoch = OLD.epoch OR OLD.lease_until_ms > neve_now_ms()))",
        "'slot ' || NEW.slot || ': ' || OLD.holder || ' epoch ' || OLD.epoch || ', then ' || NEW.holder || ' ' || NEW.epoch",
    ),
}
"""As `database.WATCHES`: name -> (event, condition that must never hold, what to say)."""
