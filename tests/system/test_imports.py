"""What importing a package pulls in: the heavy frameworks stay where they belong."""

import subprocess
import sys

import pytest

LOADED = "import sys; print(sorted({{name.partition('.')[0] for name in sys.modules}} & {forbidden}))"


@pytest.mark.parametrize(
    ("modules", "forbidden"),
    [
        ("ingest.__main__, ingest.app", {"tensorflow", "keras", "onnxruntime", "onnx", "consumers", "export"}),
        # The parent of several workers: they start once it has imported what it needs.
        ("ingest.__main__", {"numpy", "PIL", "prometheus_client", "simplejpeg", "redis"}),
        # A decode worker starts again whenever a file has ended it.
        ("ingest.images.worker, ingest.images.decode", {"redis", "pydantic", "asyncio", "starlette", "consumers"}),
        ("consumers.__main__", {"tensorflow", "keras", "starlette", "uvicorn", "ingest", "export", "PIL"}),
        ("stream.__main__", {"tensorflow", "onnxruntime", "starlette", "numpy", "PIL"}),
        ("export.__main__", {"tensorflow", "redis", "starlette", "onnxruntime", "stream", "results"}),
    ],
)
def test_a_package_imports_only_what_it_is_for(modules: str, forbidden: set[str]) -> None:
    """Start-up time and memory depend on it, and so does an image without TensorFlow."""
    code = f"import {modules}; {LOADED.format(forbidden=forbidden)}"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
