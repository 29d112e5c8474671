"""Iceberg catalogs: where tables are registered, and the read-only REST catalog over them."""
