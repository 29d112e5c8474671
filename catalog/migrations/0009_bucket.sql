-- What the bucket has of the metadata, and why nothing may be deleted for now.

-- Snapshots of the metadata in the bucket. covers_ms: every row as of then is in it, by the database's clock; objects that
-- were condemned later may be needed by whoever builds the database from it, so their bytes stay.
CREATE TABLE bucket_snapshots (
  name TEXT PRIMARY KEY,
  taken_ms BIGINT NOT NULL,
  covers_ms BIGINT NOT NULL,
  bytes BIGINT NOT NULL,
  digest TEXT NOT NULL
);

-- While there is a row, no bytes are deleted and nothing is condemned; `neve fsck --repair` lifts it once all is clean.
CREATE TABLE deletion_holds (
  name TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  since_ms BIGINT NOT NULL
);
