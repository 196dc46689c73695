"""The client's command line: what is refused, and that its page has all of it."""

import re
import subprocess
import sys

import pytest

from ingest.client.command import options
from tests.support.processes import ROOT


def test_every_option_is_on_its_page(capsys: pytest.CaptureFixture[str]) -> None:
    """And none that does not exist."""
    with pytest.raises(SystemExit, match="0"):
        options(["--help"], api_key="")
    there = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}
    page = (ROOT / "docs" / "client.md").read_text()
    assert set(re.findall(r"^\| `(--[a-z-]+)` \|", page, re.MULTILINE)) == there


@pytest.mark.parametrize(
    "wrong",
    [["--jobs", "0"], ["--jobs", "257"], ["--top", "x"], ["--top", "0"], ["--output", "r.txt"], ["--every", "0"],
     ["--give-up-after", "-1"], ["--give-up-after", "nan"], ["--url", "nowhere"], ["--api-key", "a b"], ["--bogus"],
     ["--ur=http://127.0.0.1:1"]],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_the_value(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, before anything is looked for."""
    with pytest.raises(SystemExit, match="2"):
        options(["photos", *wrong], api_key="")
    error = capsys.readouterr().err
    assert "API key" in error if wrong[0] == "--api-key" else wrong[-1] in error


def test_the_key_may_come_from_either_side() -> None:
    """The option wins over the environment; neither shows in messages."""
    for given, expected in (([], "env"), (["--api-key", "own"], "own")):
        found = options(["photos", *given], api_key="env").target
        assert found.headers["Authorization"] == f"Bearer {expected}"
        assert found.shown == "http://127.0.0.1:5000"
    assert "Authorization" not in options(["photos"], api_key="").target.headers


def test_packages_that_are_missing_are_named_as_pip_knows_them() -> None:
    """All at once. Without site-packages there are none."""
    command = [sys.executable, "-S", "-m", "ingest.client", "photos"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert done.stderr.endswith("pip install pillow tqdm\n")
