"""Files, folders and constructors keep to the limits of CONTRIBUTING.md."""

import ast
import re
from collections import Counter
from pathlib import Path

from tests.docs.vocabulary import files
from tests.support.documents import ROOT

MAX_LINES = 300
MAX_FILES = 20
MAX_PARAMETERS = 7

_CODE = {".py", ".lua", ".js", ".css", ".html"}

_CONSTRUCTOR = re.compile(r"^ +(def __init__\(.*?\) -> None):", re.MULTILINE | re.DOTALL)


def test_no_file_is_too_long_and_no_folder_too_full() -> None:
    """Generated stubs (.pyi) and documents may be longer."""
    names = [Path(name) for name in files([])]
    code = [name for name in names if name.suffix in _CODE]
    lines = {str(name): (ROOT / name).read_text().count("\n") for name in code}
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}
    folders = Counter(str(name.parent) for name in names)
    full = {folder: count for folder, count in folders.items() if count > MAX_FILES}
    assert not full, f"{full}: put files that belong together into a folder of their own"


def test_no_constructor_has_too_many_parameters() -> None:
    """Without `self`. Only the signatures are parsed: whole files would take seconds."""
    found = {}
    for name in files([]):
        text = (ROOT / name).read_text() if name.endswith(".py") else ""
        for signature in _CONSTRUCTOR.findall(text):
            (function,) = ast.parse(f"{signature}: ...").body
            assert isinstance(function, ast.FunctionDef)
            given = function.args
            count = len(given.posonlyargs + given.args + given.kwonlyargs) - 1
            if count > MAX_PARAMETERS:
                found[f"{name}: {signature}"] = count
    assert not found
