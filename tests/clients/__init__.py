"""Six client libraries behind one line protocol, each driven in a process of its own."""
