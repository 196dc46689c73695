"""`python -m export`: the process around an export. It ends with a status and a sentence, whatever happens."""

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from types import FrameType

from export import unfinished
from export.errors import program


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with a message on stderr."""
    # NumPy alone takes a tenth of a second to import, and Ctrl-C must be understood by then.
    from export import program

    return program.run(argv)


def end_on_signals() -> None:
    """SIGINT and SIGTERM end the process with 130 and 143, with a sentence and without temporary files."""
    tempfile.tempdir = tempfile.mkdtemp(prefix="sluice-export-")
    unfinished.add(tempfile.tempdir)
    # The real one, also while `export.stderr` holds back what libraries write there.
    stderr = os.dup(2)

    def end(number: int, _frame: FrameType | None) -> None:
        # Right here: an exception would have to find its way through the C++ of TensorFlow, which shows some and
        # drops others.
        unfinished.remove_all()
        word = "interrupted" if number == signal.SIGINT else "terminated"
        os.write(stderr, f"\n{program()}: {word}, nothing was written\n".encode())
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)


if __name__ == "__main__":
    end_on_signals()
    try:
        sys.exit(main())
    finally:
        unfinished.remove_all()
