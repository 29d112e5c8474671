"""One module per Kafka API, named with its key; importing a module registers, advertises and documents it."""
