"""The bucket alone is enough: outcomes of commits in a journal, snapshots of the metadata, and a database built from both."""
