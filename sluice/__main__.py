"""`python -m sluice`: the same as the console script `sluice`."""

import sys

from sluice.command import main

if __name__ == "__main__":
    sys.exit(main())
