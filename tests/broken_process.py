"""`python -m tests.broken_process`: a process that ends by its own mistake, after its logs are configured."""

from stream.logs import configure

if __name__ == "__main__":
    configure("info", "json")
    _ = 1 / 0
