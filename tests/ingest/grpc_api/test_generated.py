"""The generated messages belong to their description."""

import importlib.resources
import subprocess
import sys
from pathlib import Path

from tests.support.documents import ROOT

FOLDER = Path("ingest/grpc_api")


def test_the_messages_are_those_of_the_description(tmp_path: Path) -> None:
    """The descriptor that the compiler makes from inference.proto is the one in the generated code."""
    common = importlib.resources.files("grpc_tools") / "_proto"
    command = ["-m", "grpc_tools.protoc", "-I.", f"-I{common}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, *command, str(FOLDER / "inference.proto")], cwd=ROOT, check=True)
    assert _descriptor(tmp_path / FOLDER / "inference_pb2.py") == _descriptor(ROOT / FOLDER / "inference_pb2.py")
    assert (tmp_path / FOLDER / "inference_pb2.pyi").read_text() == (ROOT / FOLDER / "inference_pb2.pyi").read_text()


def _descriptor(path: Path) -> str:
    """Its line in the generated code. The rest depends on the compiler's version."""
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("DESCRIPTOR = ")]
    return line
