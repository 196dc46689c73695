"""`python -m tests.support.programs.broken_process`: a process that fails after it has configured its logs."""

from stream.host.logs import configure

if __name__ == "__main__":
    configure("info", "json")
    _ = 1 / 0
