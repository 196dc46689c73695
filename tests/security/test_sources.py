"""Nothing in Sluice runs what it reads: no pickle, no eval, no shell, no YAML with objects."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HOUSES = ("bench", "consumers", "deploy", "examples", "export", "ingest", "results", "stream")
SOURCES = sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py"))

#: Modules whose reading runs what was written.
_MODULES = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"})
_CALLS = frozenset({"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "yaml.load",
                    "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load"})  # fmt: skip

#: What is allowed, by name, with the reason.
_ALLOWED = {
    # A PyTorch checkpoint is a pickle. Its reader knows the few names that a table of weights needs, and refuses all
    # others; tests/export/sources/test_torch_checkpoint.py shows it.
    ("export/sources/torch_checkpoint.py", "pickle"),
}


def _dangers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in _MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in _MODULES:
                yield module
            case ast.Call(func=func) if ast.unparse(func) in _CALLS:
                yield ast.unparse(func)
            case ast.keyword(arg="shell" | "allow_pickle", value=ast.Constant(value=True)):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    """Each module of ours, by its syntax tree."""
    name = str(path.relative_to(ROOT))
    found = set(_dangers(ast.parse(path.read_text())))
    assert {(name, danger) for danger in found} <= _ALLOWED


def test_what_is_allowed_is_there() -> None:
    """An exception that nothing needs any more would hide the next one."""
    for name, danger in _ALLOWED:
        assert danger in set(_dangers(ast.parse((ROOT / name).read_text())))


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "import joblib.numpy_pickle", "eval('1')", "x = exec", "exec(x)",
     "numpy.load(f)", "run(x, shell=True)", "numpy.lib.format.read_array(f, allow_pickle=True)", "os.system('ls')"],
)  # fmt: skip
def test_the_dangers_are_recognised(source: str) -> None:
    """And what only looks like one is not: a name alone runs nothing."""
    assert bool(list(_dangers(ast.parse(source)))) == (source != "x = exec")
