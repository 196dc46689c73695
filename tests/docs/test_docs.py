"""The documents say what the code does: settings, commands, routes, problems, keys, dependencies."""

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from starlette.routing import Route

from ingest.app import create_app
from ingest.errors import Problem
from ingest.grpc_api.status import code_of
from ingest.images.formats import FORMATS, SUFFIXES
from stream.entry import FIELDS, Entry
from stream.settings import IngestSettings
from stream.settings.variables import all_fields
from tests.docs import settings
from tests.support.documents import (
    DOCUMENTS,
    ROOT,
    anchors,
    assert_same,
    code,
    links,
    links_to_headings,
    rows,
    text,
)
from tests.support.redis.inline import inline

NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def test_the_docs_have_every_setting_with_its_default() -> None:
    """Setting, variable, option and default, in the order of the code, and none that does not exist."""
    documented = [row[:4] for row in rows("docs/settings.md", "setting", "variable", "option", "default")]
    assert documented == [
        (name, f"SLUICE_{name.upper()}", f"--{name.replace('_', '-')}", _written(field.default))
        for name, field in all_fields().items()
    ]


def _written(default: object) -> str:
    match default:
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case _:
            return str(default) or "empty"


def test_the_api_has_every_route_and_no_other() -> None:
    """A route is a heading of its own."""
    documented = re.findall(r"^### `([A-Z]+) (\S+)`$", text("docs/api.md"), re.MULTILINE)
    routes = [route for route in create_app(IngestSettings()).routes if isinstance(route, Route)]
    assert_same(
        "docs/api.md",
        documented,
        [(method, route.path_format) for route in routes for method in (route.methods or set()) - {"HEAD"}],
    )


def test_the_api_has_every_problem_with_its_status() -> None:
    """And none that no request can meet."""
    documented = [(int(status), code) for status, code, _ in rows("docs/api.md", "status", "code", "when")]
    assert_same("docs/api.md", documented, {(one.status, one.code) for one in _with_children(Problem)})


def test_the_table_of_grpc_has_every_status() -> None:
    """As ingest/grpc_api/status.py maps those of the problems."""
    documented = rows("docs/api.md", "gRPC status", "problems of the status")
    statuses = {one.status for one in _with_children(Problem)}
    assert_same(
        "docs/api.md",
        [(name, int(status)) for name, listed in documented for status in re.findall(r"\b\d{3}\b", listed)],
        {(code_of(status).name, status) for status in statuses},
    )


def _with_children(problem: type[Problem]) -> list[type[Problem]]:
    return [problem, *(one for child in problem.__subclasses__() for one in _with_children(child))]


@pytest.mark.parametrize(
    "document", ["docs/api.md", "CHANGELOG.md", "ingest/page/card.js", "examples/simple_request.py"]
)
def test_every_list_of_image_formats_is_whole(document: str) -> None:
    """Where people read which formats they may send."""
    assert [image_format.title for image_format in FORMATS if image_format.title not in text(document)] == []


def test_the_client_page_has_every_suffix() -> None:
    """Those that it finds in folders, and no other."""
    (listed,) = re.findall(r"by suffix \(`([^`]*)`", text("docs/client.md"))
    assert_same("docs/client.md", listed.split(), SUFFIXES)


def test_the_tables_of_settings_are_current() -> None:
    """As `python -m tests.docs.settings` writes them, and what is not current is found."""
    document = text("docs/settings.md")
    assert settings.current(document) == document
    changed = document.replace("`SLUICE_PORT`", "`SLUICE_PORTS`")
    assert settings.current(changed) == document != changed


def test_the_docs_say_when_to_change_every_setting() -> None:
    """But for none that does not exist; a setting's group may differ from the code's."""
    documented = [name for name, _ in rows("docs/settings.md", "setting", "change it when")]
    assert_same("docs/settings.md", documented, all_fields())


def test_the_runbook_has_every_problem_of_the_service() -> None:
    """Those that are no fault of the request itself."""
    documented = " ".join(row[0] for row in rows("docs/runbook.md", "symptom", "cause"))
    problems = _with_children(Problem)
    ours = {(one.status, one.code) for one in problems if one.status >= 500 or one.status in (401, 429)}
    assert {(int(status), code) for status, code in re.findall(r"(\d{3}) `(\w+)`", documented)} == ours


def test_the_runbook_has_every_line_from_warnings_on() -> None:
    """With its level, as the code writes it, but for what is filled in."""
    documented = {(line.strip("`"), level) for line, level, _ in rows("docs/runbook.md", "line", "level")}
    assert documented == {
        found
        for house in ("consumers", "ingest", "results", "stream")
        for path in (ROOT / house).rglob("*.py")
        for found in _logged(path)
    }


def _logged(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(attr=("warning" | "error" | "critical") as level), args=[ast.Constant(str(line)), *_]
            ):
                yield re.sub(r"%[a-z]", "...", line), level
            case ast.Call(func=ast.Attribute(attr="log"), args=[_, ast.Constant(str(line)), *_]):
                yield re.sub(r"%[a-z]", "...", line), "warning"  # once for each outage, then less
            case _:
                pass


def test_the_design_has_every_field_of_the_entry_and_every_script() -> None:
    """What travels, and what changes it."""
    documented = {field for row in rows("docs/design.md", "field", "value") for field in re.findall(r"\w+", row[0])}
    given = {"more_ms": 1, "webhook": "x", "preparation": "0", "traceparent": "00-", "sent_ns": 1, "channels": 4}
    entry = Entry("x", "", 0, 1, 1, b"rgba", fractions=b"half", **given)  # type: ignore[arg-type]
    assert documented == set(inline(entry)) == FIELDS
    scripts = {row[0] for row in rows("docs/design.md", "script", "does, atomically")}
    assert scripts == {
        str(path.relative_to(ROOT))
        for house in ("ingest", "stream", "results", "consumers")
        for path in ROOT.glob(f"{house}/**/*.lua")
    }


def test_every_dependency_has_its_reason() -> None:
    """Each package of pyproject.toml with its range and its extras, and no other."""
    documented = {
        (name, span, extra) for name, span, _, extra, why in rows("docs/dependencies.md", "package", "range") if why
    }
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted: dict[tuple[str, str], list[str]] = {}
    for extra, packages in project["optional-dependencies"].items():
        for name, span in map(_package, packages):
            wanted.setdefault((name, span), []).append(f"`{extra}`")
    assert documented == {
        (name, span, ", ".join(extras).strip("`") if len(extras) == 1 else ", ".join(extras))
        for (name, span), extras in wanted.items()
        if name != project["name"]
    }


def _package(requirement: str) -> tuple[str, str]:
    found = re.fullmatch(r"([\w-]+)(?:\[[^]]*\])?([^;]*)(?:;.*)?", requirement)
    assert found, requirement
    return found[1], found[2].strip() or "any"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_document_runs_exists(name: str) -> None:
    """Targets of make, modules with their options, services and files of compose, scripts."""
    documented = code(ROOT / name)
    rules = re.findall(r"^([a-z][\w-]*):(?!=)", text("Makefile"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z][\w-]*)", documented)) <= set(rules)
    assert set(re.findall(r"\bmake .*?\b([A-Z]+)=", documented)) <= set(
        re.findall(r"^([A-Z]+) \?=", text("Makefile"), re.MULTILINE)
    )
    for module, line in re.findall(r"python -m ([\w.]+)(.*)", documented):
        assert find_spec(f"{module}.__main__" if "." not in module else module), module
        options = frozenset(re.findall(r"--[\w-]+", line))
        assert not options or options <= _options(module, *_commands(line)), line
    assert set(re.findall(r"(?<!namespace )(?<!-u )\bsluice ([a-z]+)\b", documented)) <= _subcommands()
    services = yaml.safe_load(text("compose.yaml"))["services"]
    assert set(re.findall(r"--scale (\w+)=", documented)) <= services.keys()
    files = re.findall(r"(?:-f |(?<![\w/])python )([\w./-]+\.(?:yaml|py))", documented)
    assert all((ROOT / file).is_file() for file in files), files


def _commands(line: str) -> list[str]:
    """`dead-letters list` of ` dead-letters list --json`."""
    leading = re.match(r"(?: [a-z][a-z-]*\b)*", line)
    assert leading
    return leading[0].split()


@functools.cache
def _subcommands() -> set[str]:
    """Those of the command `sluice`."""
    command = [sys.executable, "-m", "sluice", "--help"]
    helped = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(re.findall(r"^  sluice (\w+)", helped.stdout, re.MULTILINE))


@functools.cache
def _options(module: str, *commands: str) -> set[str]:
    command = [sys.executable, "-m", module, *commands, "--help"]
    helped = subprocess.run(command, check=True, capture_output=True, text=True)
    return set(re.findall(r"--[\w-]+", helped.stdout))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_document_points_at_exists(name: str) -> None:
    """Links within the repository, and paths of our own files in the text."""
    path = ROOT / name
    assert all((path.parent / target).exists() for target in links(path))
    assert [(other, anchor) for other, anchor in links_to_headings(path) if anchor not in anchors(other)] == []
    houses = "bench|consumers|deploy|docs|examples|export|ingest|results|sluice|stream|tests"
    named = re.findall(rf"(?<![\w/.])(?:{houses})/[\w/]+\.\w+", code(path))
    assert all((ROOT / one).exists() for one in named), named


@pytest.mark.parametrize("name", NAMES)
def test_no_document_knows_the_machine_it_was_written_on(name: str) -> None:
    """No absolute path of anybody's, and no variable that is no setting."""
    assert not re.findall(r"(?<![\w.:/])/(?:work|tmp|root|home|opt|usr|var|mnt)\b\S*", text(name))
    assert {one.lower() for one in re.findall(r"\bSLUICE_([A-Z0-9_]+)", text(name))} <= {
        *all_fields(),
        "test_server",
        "api_key",  # of the folder client, which has no other setting
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_extra_is_installed_so_that_the_clone_stays_in_use(name: str) -> None:
    """Without -e, pip would copy the sources, and `git pull` would change nothing for `.venv/bin/sluice`."""
    assert re.findall(r"pip install '?\.\[\S*", text(name)) == []


def test_the_changelog_says_what_is_unreleased() -> None:
    """Keep a Changelog: the newest first, each part with one of its words."""
    parts = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.MULTILINE)
    assert parts[0] == "Unreleased"
    words = set(re.findall(r"^### (.+)$", text("CHANGELOG.md"), re.MULTILINE))
    assert words <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
