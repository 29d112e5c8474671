-- Key compaction (cleanup.policy=compact): how far each shard is, and since when its oldest part waits.

-- cleaned_through: below it each key's latest record is known to be the only one, but for what was there of newer ones.
-- touched_through: below it records may have been removed, also by a round that didn't end; it never goes back.
-- dirty_since_ms: Unix ms of the oldest newest-record of an extent that isn't compacted yet; null where nothing waits.
CREATE TABLE key_cleaning (
  topic BIGINT NOT NULL,
  shard INTEGER NOT NULL,
  cleaned_through BIGINT NOT NULL DEFAULT 0,
  touched_through BIGINT NOT NULL DEFAULT 0,
  dirty_since_ms BIGINT,
  cleaned_ms BIGINT,
  PRIMARY KEY (topic, shard)
) {hot};
