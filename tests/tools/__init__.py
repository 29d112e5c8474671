"""Kafka's own command-line tools, run the same way against real Kafka and against Neve."""
