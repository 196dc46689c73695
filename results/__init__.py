"""What the writer and the reader of a result must agree on: the outcome, its store, the reply stream."""
