-- Client quotas: one row per entity and quota.

-- entity: JSON of its parts by type ("client-id", "ip", "user"), null for the default, as catalog/quotas.py writes it.
CREATE TABLE client_quotas (
  entity TEXT NOT NULL,
  quota TEXT NOT NULL,
  amount DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (entity, quota)
);
INSERT INTO counters (name, next) VALUES ('client_quota_change', 1);
