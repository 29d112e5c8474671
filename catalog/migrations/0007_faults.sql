-- Faults set on purpose on a staging cluster (`neve fault`); production agents never look here.

-- until_ms: by the database's clock; null lasts until it is removed. times: at most so often on each agent, null without end.
CREATE TABLE faults (
  fault BIGINT PRIMARY KEY,
  point TEXT NOT NULL,
  rate DOUBLE PRECISION NOT NULL,
  pattern TEXT NOT NULL,
  delay_ms BIGINT NOT NULL,
  times BIGINT,
  until_ms BIGINT
);
INSERT INTO counters (name, next) VALUES ('fault', 1);
