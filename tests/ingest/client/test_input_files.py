"""Which files the client finds for the paths on its command line."""

import os
from pathlib import Path

import pytest

from ingest.client.input_files import InputFile, NothingFoundError, find, ignored_by_suffix
from ingest.images.formats import SUFFIXES

FILES = ["b.JPG", "a.png", "notes.txt", ".hidden.jpg", ".git/x.jpg", "deep/er/c.webp", "deep/film.mp4", "copies/a.png"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that has `photos` with each kind of file."""
    for name in FILES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*named: str, videos: bool = False, without: str = "") -> list[str]:
    return [found.path for found in find(list(named), videos=videos, without=without)]


def test_a_folder_has_its_images_at_any_depth(folder: Path) -> None:
    """In order; hidden files, other endings and videos are left out."""
    assert names("photos") == ["photos/a.png", "photos/b.JPG", "photos/copies/a.png", "photos/deep/er/c.webp"]


def test_what_is_no_image_is_reported(folder: Path) -> None:
    """By suffix, each file once; hidden files are no news, and videos can be asked for."""
    ignored: set[str] = set()
    find(["photos", "photos/*"], videos=False, ignored=ignored)
    assert ignored_by_suffix(ignored) == (
        "ignored 2 files that are not images: 1 .mp4, 1 .txt (--every includes videos)"
    )
    assert ignored_by_suffix(set()) == ""


def test_every_accepted_suffix_is_found(folder: Path) -> None:
    """The service's list is the client's."""
    paths = [Path("all") / f"x{suffix}" for suffix in sorted(SUFFIXES)]
    Path("all").mkdir()
    for path in paths:
        path.touch()
    assert {".heic", ".heif", ".avif"} < SUFFIXES
    assert names("all") == [str(path) for path in paths]


def test_videos_in_folders_are_taken_when_asked_for(folder: Path) -> None:
    """As with --every; one that is named directly is always taken."""
    assert "photos/deep/film.mp4" in names("photos", videos=True)
    (found,) = find(["photos/deep/film.mp4"], videos=False)
    assert found.is_video


def test_what_is_named_directly_is_taken_whatever_it_is_called(folder: Path) -> None:
    """The service says whether it is an image."""
    assert names("photos/notes.txt", "photos/.hidden.jpg", "photos/.git") == [
        "photos/notes.txt", "photos/.hidden.jpg", "photos/.git/x.jpg"
    ]  # fmt: skip


def test_globs_are_understood_where_the_shell_left_them(folder: Path) -> None:
    """A match that is a folder is walked."""
    assert names("photos/*.*") == ["photos/a.png", "photos/b.JPG"]
    assert names("photos/**/*.webp", "phot?s/deep") == ["photos/deep/er/c.webp"]


def test_a_file_that_really_has_such_a_name_is_no_glob(folder: Path) -> None:
    """The name itself comes first."""
    (folder / "x[1].jpg").touch()
    assert names("x[1].jpg") == ["x[1].jpg"]


def test_each_file_is_taken_once(folder: Path) -> None:
    """However often and in whatever spelling it is named."""
    assert names("photos/a.png", "./photos/../photos/a.png", str(folder / "photos" / "a.png"), "-", "-") == [
        "photos/a.png", "-"
    ]  # fmt: skip


def test_the_folder_of_the_copies_is_passed_over(folder: Path) -> None:
    """Else a second run would classify what the first has drawn."""
    assert "photos/copies/a.png" not in names("photos", without="photos/copies")


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    """They may form a cycle. Links to images are followed."""
    (folder / "photos" / "deep" / "up").symlink_to(folder / "photos")
    (folder / "photos" / "deep" / "link.png").symlink_to(folder / "photos" / "a.png")
    assert names("photos/deep") == ["photos/deep/link.png", "photos/deep/er/c.webp"]


def test_a_name_of_nothing_is_an_error(folder: Path) -> None:
    """A run that takes all but one of what was named would look like a success."""
    for name in ("photos/nothing.jpg", "photos/*.bmp"):
        with pytest.raises(NothingFoundError, match="no such file"):
            names("photos", name)


def test_what_is_no_file_gets_a_row(folder: Path) -> None:
    """A named pipe would be waited for without an end."""
    os.mkfifo(folder / "pipe.jpg")
    assert find(["pipe.jpg"], videos=False) == [InputFile("pipe.jpg", "is neither a file nor a folder")]
