"""`neve fsck`: metadata, segments and what the store holds, compared. Checks are pure; one shell reads."""
