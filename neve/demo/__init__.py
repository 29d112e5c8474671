"""`neve demo`: the whole system on embedded defaults, with real flights through a real Kafka client."""
