-- First light: cluster identity, agents and epochs, topics and shards, objects and extents, producers, leases, ledger.
-- Tokens in braces are explained in catalog/database.py. Times are Unix milliseconds by the database's clock.

CREATE TABLE cluster (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  cluster_id TEXT NOT NULL,
  created_ms BIGINT NOT NULL
);

-- Named counters that only grow. Taking from one holds its row until the transaction ends, so numbers become visible in order.
CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  next BIGINT NOT NULL
);
INSERT INTO counters (name, next) VALUES
  ('agent_epoch', 1), ('agent_change', 1), ('topic', 1), ('topic_change', 1), ('producer_id', 1), ('ledger', 1);

-- Live agents, one row per broker id; a row whose lease has run out may be taken over by another instance.
CREATE TABLE agents (
  broker_id INTEGER PRIMARY KEY,
  instance TEXT NOT NULL,
  host TEXT NOT NULL,
  port INTEGER NOT NULL,
  zone TEXT NOT NULL,
  roles TEXT NOT NULL,
  version TEXT NOT NULL,
  lease_until_ms BIGINT NOT NULL
);

-- Agent epochs: issued once, leased, rotated. A commit under an epoch that is not live is refused.
CREATE TABLE epochs (
  epoch BIGINT PRIMARY KEY,
  instance TEXT NOT NULL,
  issued_ms BIGINT NOT NULL,
  lease_until_ms BIGINT NOT NULL,
  retired INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE topics (
  topic BIGINT PRIMARY KEY,
  topic_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  shards INTEGER NOT NULL,
  config TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  deleted_ms BIGINT,
  changed BIGINT NOT NULL
);
CREATE UNIQUE INDEX topics_live_name ON topics (name) WHERE deleted_ms IS NULL;
CREATE INDEX topics_changed ON topics (changed);

-- Table names are reserved case-folded when the topic is created, and stay with that topic id for ever.
CREATE TABLE table_names (
  folded TEXT PRIMARY KEY,
  topic BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL
);
CREATE INDEX table_names_topic ON table_names (topic);

-- append_ms is the last LogAppendTime given out (-1: none), so that it never goes back.
CREATE TABLE shards (
  topic BIGINT NOT NULL,
  shard INTEGER NOT NULL,
  high_watermark BIGINT NOT NULL,
  log_start BIGINT NOT NULL,
  append_ms BIGINT NOT NULL,
  PRIMARY KEY (topic, shard)
) {hot};

-- The outcome (see catalog/outcomes.py) is set to null when no retry can ask for it any more; the row stays.
CREATE TABLE objects (
  object_id BIGINT PRIMARY KEY,
  name TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  committed_ms BIGINT NOT NULL,
  outcome {blob}
) {clustered};
CREATE INDEX objects_outcome ON objects (committed_ms) WHERE outcome IS NOT NULL;

-- Object ids (epoch << 32 | sequence) that the sweeper is about to delete; a commit that names one is refused.
CREATE TABLE condemned (
  object_id BIGINT PRIMARY KEY,
  condemned_ms BIGINT NOT NULL
);

-- One row per run of byte-adjacent, offset-adjacent batches of one shard in one object.
CREATE TABLE extents (
  topic BIGINT NOT NULL,
  shard INTEGER NOT NULL,
  offset_next BIGINT NOT NULL,
  offset_first BIGINT NOT NULL,
  object_id BIGINT NOT NULL,
  byte_first BIGINT NOT NULL,
  byte_length INTEGER NOT NULL,
  batches INTEGER NOT NULL,
  timestamp_max BIGINT NOT NULL,
  append_ms BIGINT NOT NULL,
  PRIMARY KEY (topic, shard, offset_next)
) {clustered};

-- Producer state per shard: the last five batches, packed (see catalog/outcomes.py), oldest first.
CREATE TABLE producers (
  topic BIGINT NOT NULL,
  shard INTEGER NOT NULL,
  producer_id BIGINT NOT NULL,
  producer_epoch INTEGER NOT NULL,
  batches {blob} NOT NULL,
  updated_ms BIGINT NOT NULL,
  PRIMARY KEY (topic, shard, producer_id)
) {hot};

-- Leased jobs: one holder, a fencing epoch that only grows.
CREATE TABLE leases (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  epoch BIGINT NOT NULL,
  lease_until_ms BIGINT NOT NULL
);

-- Export state per table (kind 'main' or 'dlq'): what the exporter last knew; the table's own properties are the truth.
CREATE TABLE exports (
  topic BIGINT NOT NULL,
  kind TEXT NOT NULL,
  table_name TEXT NOT NULL,
  table_uuid TEXT,
  status TEXT NOT NULL,
  message TEXT NOT NULL,
  offsets TEXT NOT NULL,
  committed_ms BIGINT,
  PRIMARY KEY (topic, kind)
);

-- The ledger: Parquet files written and not yet, or already, committed. Contiguous by offset per (topic, kind, shard).
CREATE TABLE ledger (
  id BIGINT PRIMARY KEY,
  topic BIGINT NOT NULL,
  kind TEXT NOT NULL,
  shard INTEGER NOT NULL,
  offset_first BIGINT NOT NULL,
  offset_next BIGINT NOT NULL,
  path TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  row_count BIGINT NOT NULL,
  checksum TEXT NOT NULL,
  facts TEXT NOT NULL,
  state TEXT NOT NULL,
  batch_id TEXT NOT NULL,
  lease_epoch BIGINT NOT NULL,
  created_ms BIGINT NOT NULL
);
CREATE INDEX ledger_ranges ON ledger (topic, kind, shard, offset_next);
CREATE INDEX ledger_pending ON ledger (topic, kind, shard, offset_first) WHERE state = 'pending';
