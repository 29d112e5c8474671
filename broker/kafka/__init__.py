"""The Kafka front door: connections, the registry of APIs, and one module per API under `api`."""
