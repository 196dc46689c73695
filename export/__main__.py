"""`python -m export`: the process around an export. It ends with a status and a sentence, whatever happens."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

#: Signals that were received. Some libraries turn an exception out of a signal handler into one of their own.
_received: list[int] = []


class Terminated(BaseException):
    """SIGTERM, raised where the process is, so that temporary files are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with a message on stderr; 130 and 143 when interrupted and terminated."""
    try:
        # NumPy alone takes a tenth of a second to import, and Ctrl-C must be understood by then.
        from export import program

        status = program.run(argv)
    except KeyboardInterrupt:
        return _ended(signal.SIGINT)
    except Terminated:
        return _ended(signal.SIGTERM)
    return _ended(signal.Signals(_received[0])) if status and _received else status


def _ended(by: signal.Signals) -> int:
    word = "interrupted" if by is signal.SIGINT else "terminated"
    print(f"\nexport: {word}, nothing was written", file=sys.stderr)
    return 128 + by


def _raise(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _raise)
    sys.exit(main())
