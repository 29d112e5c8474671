-- Log start and deletion: what changed of log starts, which objects nothing refers to, and what became of those.

-- start_changed: number of the last change of log_start (0: never), so that agents can ask what changed.
ALTER TABLE shards ADD COLUMN start_changed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX shards_start_changed ON shards (start_changed) WHERE start_changed > 0;
INSERT INTO counters (name, next) VALUES ('start_change', 1);

-- Extents that lie in the object; at 0 nothing refers to its bytes any more.
ALTER TABLE objects ADD COLUMN extents_live INTEGER NOT NULL DEFAULT 0;
UPDATE objects SET extents_live = c.extents
  FROM (SELECT object_id, COUNT(*) AS extents FROM extents GROUP BY object_id) AS c
  WHERE objects.object_id = c.object_id;
CREATE INDEX objects_unused ON objects (object_id) WHERE extents_live = 0;

-- Rows condemned before this had no name and are of objects that were never committed: listing finds them again.
-- deleted_ms is set when the store has confirmed; the row stays until no commit can name the object any more.
ALTER TABLE condemned ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE condemned ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE condemned ADD COLUMN deleted_ms BIGINT;
CREATE INDEX condemned_waiting ON condemned (condemned_ms) WHERE deleted_ms IS NULL;
CREATE INDEX condemned_deleted ON condemned (object_id) WHERE deleted_ms IS NOT NULL;

-- sweep_ms: when the objects below a retired epoch are listed next.
ALTER TABLE epochs ADD COLUMN retired_ms BIGINT;
ALTER TABLE epochs ADD COLUMN sweep_ms BIGINT;
UPDATE epochs SET retired_ms = lease_until_ms WHERE retired = 1;

-- Ranges that were deleted from the log before they were in the table.
CREATE TABLE export_gaps (
  topic BIGINT NOT NULL,
  kind TEXT NOT NULL,
  shard INTEGER NOT NULL,
  offset_first BIGINT NOT NULL,
  offset_next BIGINT NOT NULL,
  noticed_ms BIGINT NOT NULL,
  PRIMARY KEY (topic, kind, shard, offset_first)
);
