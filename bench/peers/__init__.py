"""Other servers, doing the same work."""
