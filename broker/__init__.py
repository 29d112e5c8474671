"""Moving bytes now: object store, Kafka front door, ingest, fetch, HTTP, and the agent that ties them together."""
