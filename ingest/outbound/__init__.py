"""Requests to servers that a client named: which addresses they may reach, and the HTTP client that keeps to them."""
