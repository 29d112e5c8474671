"""Consumer groups: the pure machine of the classic protocol, and the coordinator that runs it for the slots it holds."""
