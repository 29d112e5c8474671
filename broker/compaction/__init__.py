"""Compaction: small objects into large ones, and logs of which the last record of each key is kept."""
