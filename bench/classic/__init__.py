"""The classic design that Sluice replaces: Flask, a Redis list, polling on both sides."""
