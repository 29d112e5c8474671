-- Consumer groups: slots with their coordinators, groups, committed offsets.

-- A slot's holder coordinates its groups. The epoch grows with each holder; a write under an older one is refused.
CREATE TABLE group_slots (
  slot INTEGER PRIMARY KEY,
  holder TEXT NOT NULL,
  broker_id INTEGER NOT NULL,
  epoch BIGINT NOT NULL,
  lease_until_ms BIGINT NOT NULL
) {hot};

-- state: generation, protocol and members, as broker/groups/stored.py writes them.
CREATE TABLE consumer_groups (
  slot INTEGER NOT NULL,
  group_id TEXT NOT NULL,
  state TEXT NOT NULL,
  PRIMARY KEY (slot, group_id)
) {hot};

-- By topic number, so that a topic created again under the same name begins without offsets.
-- expire_ms is -1 unless the commit named a retention of its own; metadata is UTF-8.
CREATE TABLE group_offsets (
  group_id TEXT NOT NULL,
  topic BIGINT NOT NULL,
  shard INTEGER NOT NULL,
  committed_offset BIGINT NOT NULL,
  leader_epoch INTEGER NOT NULL,
  metadata {blob} NOT NULL,
  committed_ms BIGINT NOT NULL,
  expire_ms BIGINT NOT NULL,
  PRIMARY KEY (group_id, topic, shard)
) {hot};
