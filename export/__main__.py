"""`python -m export`: the process around an export. It ends with a status and a sentence, whatever happens."""

import signal
import sys
from collections.abc import Sequence
from types import FrameType


class Terminated(BaseException):
    """SIGTERM, raised where the process is, so that temporary files are removed."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0, or 2 with a message on stderr; 130 and 143 when interrupted and terminated."""
    try:
        # NumPy alone takes a tenth of a second to import, and Ctrl-C must be understood by then.
        from export import program

        return program.run(argv)
    except KeyboardInterrupt:
        print("\nexport: interrupted, nothing was written", file=sys.stderr)
        return 130
    except Terminated:
        print("\nexport: terminated, nothing was written", file=sys.stderr)
        return 143


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
