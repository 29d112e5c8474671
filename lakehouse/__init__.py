"""Moving bytes to tables: decode, parse, write, commit, latest, verify, query. Runs in child processes, never in a broker."""
