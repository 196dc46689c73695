"""What both ends of the stream must agree on: settings, keys, the entry, admission, the consumer group."""
