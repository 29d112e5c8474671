"""Kafka's bytes: request and response codecs, error codes, record batches, record decoding and compression. No IO."""
