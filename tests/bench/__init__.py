"""Benchmarks: scripts, never tests. `make bench` runs them side by side with Apache Kafka."""
