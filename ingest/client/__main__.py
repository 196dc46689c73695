"""`python -m ingest.client PATH...` classifies images, folders and videos. It reads SLUICE_API_KEY."""

import os
import sys
from collections.abc import Sequence

try:
    from ingest.client.command import options, program
    from ingest.client.input_files import NothingFoundError
    from ingest.client.output import OutputError
    from ingest.client.retry import ServiceError
    from ingest.client.run import PackageMissingError, run
except ModuleNotFoundError as error:
    print(f"python -m ingest.client: needs {error.name}: pip install {error.name}", file=sys.stderr)
    sys.exit(2)


def main(arguments: Sequence[str]) -> int:
    given = options(arguments, api_key=os.environ.get("SLUICE_API_KEY", ""))
    try:
        return run(given)
    except BrokenPipeError:
        # The reader of the rows has closed the pipe, as `head` does. Python would fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        return 130
    except ServiceError as error:
        resume = "Run the same command again to resume." if given.output else "A run with --output can be resumed."
        print(
            f"{program()}: stopped: {given.target.shown}: {str(error).rstrip('.')}. {resume}",
            file=sys.stderr,
        )
        return 2
    except (NothingFoundError, OutputError, PackageMissingError) as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
