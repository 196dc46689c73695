"""The command `sluice`: one word for export, serve, classify and status."""
