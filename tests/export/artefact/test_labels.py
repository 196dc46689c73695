"""The shipped ImageNet names, and the forms that a user's own file may have."""

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from export.artefact import labels
from export.errors import LabelsMismatch, UnreadableFile

#: Of the 1000 names, one per line, as they stand in Keras's imagenet_class_index.json, whose MD5 is
#: c2c37ea517e94d9795004a39431a14cb.
SHIPPED_SHA256 = "734ac9d9fdc5b3594443cca61021e5b9eb96e0473c607ed03d8810c63fe48291"


def test_the_shipped_names_are_keras_own() -> None:
    """Not one of them may change: clients compare them as text."""
    content = resources.files("export.artefact").joinpath("imagenet_labels.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHIPPED_SHA256
    names = labels.imagenet()
    assert len(names) == 1000
    assert (names[0], names[285], names[812], names[999]) == (
        "tench",
        "Egyptian_cat",
        "space_shuttle",
        "toilet_tissue",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "cat\ndog\n"),
        ("names.txt", "\ufeffcat\r\ndog\r\n\r\n"),
        ("names.txt", '["cat", "dog"]'),
        ("names.json", '["cat", "dog"]'),
        ("names.json", '{"0": ["n1", "cat"], "1": ["n2", "dog"]}'),
        ("names.json", '{"1": "dog", "0": "cat"}'),
        ("class_indices.json", '{"dog": 1, "cat": 0}'),
        ("config.json", '{"architectures": ["ViT"], "id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}'),
        ("labels.txt", "0 cat\n1 dog\n"),
    ],
)
def test_every_form_gives_the_same_names(tmp_path: Path, name: str, text: str) -> None:
    """Lines, with what Windows adds to them, a JSON list, and Keras's class index."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert labels.read(path) == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"cat\n\ndog\n", "empty line 2"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'["cat", 1]', "every name must be a text"),
        (b'{"0": "cat", "2": "dog"}', "none has the index 1"),
        (b'{"cat": 0, "dog": 2}', "none has the index 1"),
        (b'{"cat": 0, "dog": 0}', "two names have the same index"),
        (b'{"cat": 0, "cat": 1}', "the key 'cat' is there twice"),
        (b'{"0": "cat", "0": "dog"}', "the key '0' is there twice"),
        (b'{"0": 1, "1": 0}', "so that names and indices look the same"),
        (b"1 dog\n0 cat\n", "not in the order 0, 1, 2"),
        (b"\x80\x04\x95cposix\nsystem\n", "not UTF-8"),
        (b'["cat", ', "can't be read: Expecting value"),
    ],
)
def test_files_that_name_no_classes_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Each with what is wrong in it."""
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=message):
        labels.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name and the system's reason."""
    with pytest.raises(UnreadableFile, match=r"gone\.txt: No such file"):
        labels.read(tmp_path / "gone.txt")


def test_there_is_one_name_for_each_output() -> None:
    """Neither more nor fewer. The first shows a line of headings, and names with commas between them."""
    with pytest.raises(LabelsMismatch, match=r"1 labels.* 2 names, one per line, .* The first is now 'cat,dog'"):
        labels.check(("cat,dog",), classes=2, origin="the list")
    labels.check(("cat", "dog"), classes=2, origin="the list")
    for classes in (1, 3):
        with pytest.raises(LabelsMismatch, match=f"the list has 2 labels, but the model has {classes} classes"):
            labels.check(("cat", "dog"), classes=classes, origin="the list")
