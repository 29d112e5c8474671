"""The agent's HTTP port: health, readiness, metrics and the mounted read-only Iceberg REST catalog."""
