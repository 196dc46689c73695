"""What all commands of Sluice share: options, one-line errors and atomic writes."""

import argparse
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Final, Literal, TypeVar, Union, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from stream.host.logs import LogFormat, configure, log_refusal
from stream.host.packages import as_typed
from stream.settings import RedisSettings
from stream.settings.variables import PREFIX, unknown_variables, warn_of_unknown_variables

#: Exit statuses of all commands.
OK, NOT_FOUND, FAILED = 0, 1, 2

#: Set by the command `sluice` for the package that does its work.
PROGRAM_VARIABLE = "SLUICE_PROGRAM"

S = TypeVar("S", bound=BaseSettings)


def program(module: str) -> str:
    """What the user has typed: a subcommand of `sluice`, or `python -m` and the module."""
    return os.environ.get(PROGRAM_VARIABLE, f"python -m {module}")


def sluice() -> str:
    """The command `sluice` as it can be typed in this shell: with its path, unless the environment is activated."""
    own = Path(sys.executable).with_name("sluice")
    found = shutil.which("sluice")
    if not own.exists() or (found and own.samefile(found)):
        return "sluice"
    return as_typed(own)


def start_consumer(settings: RedisSettings, model: str, version: str = "") -> str:
    """The command that starts a consumer of this model. A URL is not in it: that may hold a password."""
    found = shutil.which("python")
    own = Path(sys.executable)
    typed = "python" if found and Path(found) == own else as_typed(own)
    where = " (with the consumers' SLUICE_REDIS_URL)" if settings.redis_url else f" --data-dir {settings.data_dir}"
    return f"{typed} -m consumers --model {model}{f' --version {version}' if version else ''}{where}"


def from_command_line(kind: type[S], program: str, arguments: Sequence[str]) -> S:
    """The settings of one process, from its options and the environment.

    Exits with status 2 and prints one line per wrong value, in JSON if the log format is JSON. Exits with 0 after
    `--help`.
    """
    source: CliSettingsSource[argparse.ArgumentParser] = CliSettingsSource(
        kind, cli_prog_name=program, cli_kebab_case=True
    )
    for action in source.root_parser._actions:  # noqa: SLF001 (argparse has no other way to a parser's options)
        if action.dest in kind.model_fields:
            field = kind.model_fields[action.dest]
            action.help, action.metavar = described(field, default=True), value_name(action.dest, field)
    source(args=list(arguments))
    options = [name for name, value in source.env_vars.items() if value]
    try:
        return kind(_cli_settings_source=source)
    except ValidationError as error:
        log_format = _log_format(arguments)
        configure("info", log_format)
        warn_of_unknown_variables(os.environ)
        for fault in dict.fromkeys(_fault(kind, problem, options) for problem in error.errors()):
            refuse(program, fault, log_format)
        raise SystemExit(2) from error


def _fault(kind: type[BaseSettings], problem: ErrorDetails, options: Collection[str]) -> str:
    """What is wrong with a setting, or with several together. Where several types fit, pydantic has one for each."""
    text = problem["msg"].removeprefix("Value error, ")  # pydantic's, before the text of a validator
    if not problem["loc"]:
        return text
    name = str(problem["loc"][0])
    field, value = kind.model_fields[name], str(problem["input"])
    typed = f"--{name.replace('_', '-')}" if name in options else f"{PREFIX}{name.upper()}"
    if problem["type"].startswith("string_"):
        text = f"the {text[0].lower()}{text[1:]}"  # pydantic names the length or the pattern.
    elif problem["type"] != "value_error":
        text = f"it must be {_allowed(field)}"
    elif _is_secret(name, field) or value in text:
        return f"{typed}: {text}"
    shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    return f"{typed} is {shown if value.isprintable() and value else repr(shown)}: {text}"


def _is_secret(name: str, field: FieldInfo) -> bool:
    """Whether the value may hold a key or a password."""
    return field.annotation is SecretStr or name.endswith("_url")


def _allowed(field: FieldInfo) -> str:
    """The values that the type of a setting allows, in words for people."""
    return " or ".join(word for kind in _kinds(field) for word in _allowed_by(kind, field.metadata))


def _allowed_by(kind: object, metadata: Sequence[object]) -> Sequence[str]:
    if get_origin(kind) is Annotated:
        base, declared = get_args(kind)
        return _allowed_by(base, declared.metadata)
    if kind not in {int, float}:
        return _words("", kind)
    limits = [
        f"{words} {getattr(one, key):g}" for one in metadata for key, words in _LIMITS.items() if hasattr(one, key)
    ]
    number = "a whole number" if kind is int else "a number"
    return (f"{number} ({', '.join(limits)})" if limits else number,)


#: The limits of a number, as pydantic names them and in words.
_LIMITS: Final = {"ge": "at least", "gt": "more than", "le": "at most"}

#: Characters of a wrong value that are shown.
_SHOWN: Final = 60


#: How --help names the value of an option, by the end of the option's name. The first that fits counts.
_VALUES: Final = {
    "url": "URL", "_file": "FILE", "_dir": "FOLDER", "port": "PORT", "host": "ADDRESS", "_address": "ADDRESS",
    "model": "NAME", "version": "VERSION", "_keys": "NAME:KEY,...", "_proxies": "ADDRESS,...",
    "_networks": "NETWORK,...", "_origins": "ORIGIN,...", "_hosts": "HOST,...", "_secret": "SECRET,...",
    "retries_s": "SECONDS,...", "_per_s": "N", "_s": "SECONDS", "_bytes": "BYTES", "_memory": "BYTES",
}  # fmt: skip


def value_name(name: str, field: FieldInfo) -> str:
    """How --help names the value of a setting: its choices, else a word in capitals."""
    words = _value_words(name, field)
    return words[0] if len(words) == 1 else f"{{{','.join(words)}}}"


def _value_words(name: str, field: FieldInfo) -> list[str]:
    return [word for kind in _kinds(field) for word in _words(name, kind)]


def _kinds(field: FieldInfo) -> tuple[object, ...]:
    """The types of a setting, of which a value must have one."""
    return get_args(field.annotation) if get_origin(field.annotation) in {Union, UnionType} else (field.annotation,)


def _words(name: str, kind: object) -> Sequence[str]:
    """The choices of one type, or a word for its values."""
    if get_origin(kind) is Annotated:
        return _words(name, get_args(kind)[0])
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if kind is bool:
        return ("true", "false")
    named = next((word for end, word in _VALUES.items() if name.endswith(end)), "")
    return (named or ("N" if kind in {int, float} else "TEXT"),)


def described(field: FieldInfo, *, default: bool = False) -> str:
    """What --help says of a setting, with or without its default."""
    text, value = field.description or "", field.default
    shown = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return (f"{text} (default: {shown})" if default and shown else text).replace("%", "%%")


class _LogFormatOnly(BaseSettings):
    """Reads the log format even if other settings are wrong."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", cli_kebab_case=True)

    log_format: str = "human"


def _log_format(arguments: Sequence[str]) -> LogFormat:
    source: CliSettingsSource[object] = CliSettingsSource(
        _LogFormatOnly, cli_parse_args=list(arguments), cli_kebab_case=True, cli_ignore_unknown_args=True
    )
    return "json" if _LogFormatOnly(_cli_settings_source=source).log_format == "json" else "human"


def refuse(program: str, why: object, log_format: LogFormat = "human") -> int:
    """Report in one line why a program does not start, and return its exit status."""
    if log_format == "json":
        log_refusal(program, why)
        return FAILED
    return complain(program, str(why), FAILED)


def complain(program: str, message: str, status: int) -> int:
    """Print one line on standard error, and return the exit status."""
    sys.stderr.write(f"{program}: {message}\n")
    return status


def print_unknown_variables(program: str) -> None:
    """One line for each variable `SLUICE_...` that no setting has, as the processes log them."""
    for name, advice in unknown_variables(os.environ).items():
        complain(program, f"{name} is no setting and has no effect: {advice}", OK)


def write_atomically(path: Path, text: str, *, mode: int) -> None:
    """Replace a file by this text, on disk, with these permissions: a reader sees the old file or the new one.

    The new file has the owner and the group of the old one, if this process may give them.
    """
    before = path.stat() if path.exists() else None
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:  # noqa: PTH123 (sets the mode)
        if before is not None:
            with suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
