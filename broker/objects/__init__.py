"""The object port and its implementations: local folder, memory, S3, and wrappers named for what they add."""
