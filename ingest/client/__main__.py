"""`python -m ingest.client PATH...` classifies images, folders and videos. It reads SLUICE_API_KEY."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

try:
    from ingest.client.command import Options, options, program
    from ingest.client.input_files import NothingFoundError
    from ingest.client.output import OutputError
    from ingest.client.retry import ServiceError
    from ingest.client.run import PackageMissingError, run
except ModuleNotFoundError as error:
    packages = {"PIL": "pillow", "tqdm": "tqdm"}
    if error.name not in packages:
        raise
    missing = " ".join(package for module, package in packages.items() if find_spec(module) is None)
    print(f"python -m ingest.client: packages are missing: pip install {missing}", file=sys.stderr)
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
        print(f"{program()}: stopped: {str(error).rstrip('.')}.{_resume(given, error)}", file=sys.stderr)
        return 2
    except (NothingFoundError, OutputError, PackageMissingError) as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 2


def _resume(given: Options, error: ServiceError) -> str:
    """How to go on. Where the service refuses an option, the same command would fail again."""
    if not error.passing:
        return ""
    return " Run the same command again to resume." if given.output else " A run with --output can be resumed."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
