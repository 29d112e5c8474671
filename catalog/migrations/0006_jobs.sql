-- Jobs: what is to be done again and again, by one holder at a time. The holder and its fencing epoch stand in leases,
-- under `lease`: the job's name, with "/scope" behind it where there are several of that name.

CREATE TABLE jobs (
  lease TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  progress TEXT NOT NULL DEFAULT '',
  last_success_ms BIGINT,
  last_error TEXT NOT NULL DEFAULT '',
  failures INTEGER NOT NULL DEFAULT 0,
  next_due_ms BIGINT NOT NULL DEFAULT 0
) {hot};
