"""`python -m tests.support.programs.broken_process`: a process that ends by its own mistake after it configured logs."""

from stream.host.logs import configure

if __name__ == "__main__":
    configure("info", "json")
    _ = 1 / 0
