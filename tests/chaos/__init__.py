"""Chaos: the whole system under load while its processes are killed, paused and cut off from Redis."""
