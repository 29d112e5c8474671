"""What exists: the database port, migrations and the stores above it, the sequencer, and the Iceberg catalogs."""
