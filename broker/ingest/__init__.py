"""The write path: accumulator, flush policy, segment upload and the commit queue."""
