"""Client quotas: how much of an agent a client may have, and what happens when it wants more."""
