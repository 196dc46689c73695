"""`python -m ingest.client PATH...`: classify pictures, folders and videos. Reads SLUICE_API_KEY."""

import os
import sys
from collections.abc import Sequence

try:
    from ingest.client.command import options
    from ingest.client.input_files import NothingFoundError
    from ingest.client.output import OutputError
    from ingest.client.run import MissingError, run
    from ingest.client.sender import GaveUpError
except ModuleNotFoundError as error:
    print(f"python -m ingest.client: needs {error.name}: pip install -e '.[client]'", file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str]) -> int:
    given = options(arguments, api_key=os.environ.get("SLUICE_API_KEY", ""))
    try:
        return run(given)
    except BrokenPipeError:
        # Whoever read the rows has closed, as `head` does. Python would on_retry again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        return 130
    except GaveUpError as error:
        print(
            f"python -m ingest.client: stopped: {given.target.shown}: {str(error).rstrip('.')}. ",
            file=sys.stderr,
            end="",
        )
        print(
            "The same command goes on from here." if given.output else "With --output, a run can go on.",
            file=sys.stderr,
        )
        return 2
    except (NothingFoundError, OutputError, MissingError) as error:
        print(f"python -m ingest.client: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
