"""HTTP in, HTTP out. Knows nothing of models beyond the description that consumers publish."""
