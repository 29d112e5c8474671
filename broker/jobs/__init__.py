"""Work behind the clients' backs: which job has its turn, for how long, and when it gives way."""
