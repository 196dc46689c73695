"""Reads entries from Redis, runs the model on them in batches, and completes them with outcomes."""
