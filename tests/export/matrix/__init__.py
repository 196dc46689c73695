"""Many kinds of models through the export, each held against its owner's predict: `python -m tests.export.matrix`."""
