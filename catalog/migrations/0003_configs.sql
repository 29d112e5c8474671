-- Configs of brokers, client metrics and groups; those of topics stand with the topics.

INSERT INTO counters (name, next) VALUES ('config_change', 1);

-- kind as DescribeConfigs numbers it: 4 brokers (an empty name for all of them), 16 client metrics, 32 groups.
-- Rows stay when nothing is set any more, so that whoever asks for changes hears of it.
CREATE TABLE configs (
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  config TEXT NOT NULL,
  changed BIGINT NOT NULL,
  PRIMARY KEY (kind, name)
);
CREATE INDEX configs_changed ON configs (changed);

-- Topics whose names differ only in dots and underscores are refused, as by Kafka.
CREATE INDEX topics_alike ON topics (replace(name, '.', '_')) WHERE deleted_ms IS NULL;
