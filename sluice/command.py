"""The subcommands of `sluice`, each of which passes its arguments to the package that does the work."""

import difflib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Final

#: As in stream/cli.py, which would take a tenth of a second to import; a test compares the two.
PROGRAM_VARIABLE: Final = "SLUICE_PROGRAM"

_USAGE = """\
usage: sluice COMMAND [ARGUMENTS]

  sluice serve [MODEL]        export MODEL if needed, and serve it on http://127.0.0.1:5000
  sluice export MODEL         convert a Keras or ONNX model to the artefact that consumers run
  sluice classify IMAGE...    send images or folders to a service and write the predictions
  sluice status               show queue and consumers of the service that runs in this folder
  sluice release              try a new version on a share of the requests; promote it or roll it back
  sluice results              fetch and delete results; list, replay and drop dead letters and dead webhooks
  sluice forget MODEL         forget a model that is no longer served

MODEL is a file (.keras, .h5, .onnx), a SavedModel folder, or a name such as resnet50.
`sluice COMMAND --help` lists the arguments of a command, and `sluice --version` prints what is installed.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: that of the command, or 2 for an unknown one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from stream.host.packages import own_version  # As below.

        print(f"sluice {own_version()}")
        return 0
    command = _COMMANDS.get(arguments[0])
    if command is None:
        near = difflib.get_close_matches(arguments[0], _COMMANDS, n=1)
        meant = f": did you mean {near[0]}?" if near else ";"
        print(f"sluice: there is no command {arguments[0]!r}{meant} `sluice --help` lists them", file=sys.stderr)
        return 2
    os.environ[PROGRAM_VARIABLE] = f"sluice {arguments[0]}"  # Messages name the command as it was typed.
    try:
        return command(arguments[1:])
    finally:
        del os.environ[PROGRAM_VARIABLE]


# Each package is imported only for its own command: TensorFlow and Starlette take seconds.


def _serve(arguments: list[str]) -> int:
    from sluice.serve import main as serve

    return serve(arguments)


def _export(arguments: list[str]) -> int:
    from export.__main__ import main as export
    from stream.cli import sluice

    return export(["--typed", shlex.join([sluice(), "export", *arguments]), *arguments])


def _classify(arguments: list[str]) -> int:
    from sluice.classify import main as classify

    return classify(arguments)


def _status(arguments: list[str]) -> int:
    from consumers.status import main as status

    return status(arguments)


def _release(arguments: list[str]) -> int:
    from sluice.release import main as release

    return release(arguments)


def _results(arguments: list[str]) -> int:
    from results.__main__ import main as results

    return results(arguments)


def _forget(arguments: list[str]) -> int:
    from sluice.forget import main as forget

    return forget(arguments)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "serve": _serve,
    "export": _export,
    "classify": _classify,
    "status": _status,
    "release": _release,
    "results": _results,
    "forget": _forget,
}
