"""What ingest and consumers share: settings, keys, entries, admission, the consumer group, connections, the host."""
