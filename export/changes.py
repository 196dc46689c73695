"""What a new version changes that its predecessor's clients and consumers would not expect."""

from collections.abc import Iterator
from pathlib import Path

from export.artefact import file, repository
from export.artefact.description import Description, Resize


def predecessor(output: Path, description: Description) -> Description | None:
    """The highest other version of this model in the repository; None if there is none that can be read."""
    versions = [one for one in repository.versions(output, name=description.name) if one != description.version]
    if not versions:
        return None
    return file.description(repository.path(output, name=description.name, version=max(versions)))


def followers(written: Path, where: str = "") -> str:
    """Which running services change to what was written; `where` they do, if not everywhere. Empty if none may."""
    if not repository.is_newest_of_several(written):
        return ""
    number, name = written.parent.name, written.parent.parent.name
    restarted = f"at a restart by name (sluice serve {name})"
    begin = f"services{where} change to version {number} unless a release names another:"
    new = file.description(written)
    old = predecessor(written.parents[2], new) if new else None
    if new and old and _prepared(new) != _prepared(old):
        return f"{begin} {restarted}. With --watch, they keep a version whose images are prepared differently"
    return f"{begin} with --watch once its checks pass, others {restarted}"


def _prepared(description: Description) -> tuple[int, int, int, Resize]:
    """What an image becomes before a consumer gets it."""
    return description.height, description.width, description.channels, description.resize


def warnings(new: Description, old: Description) -> Iterator[str]:
    """One line for each change that may be a mistake."""
    if new.labels != old.labels and sorted(new.labels) == sorted(old.labels):
        yield (
            f"warning: version {old.version} has the same labels in another order. If the new order is wrong, every"
            " answer is wrong"
        )
    if new.resize != old.resize:
        forgotten = ". Was --like forgotten?" if new.assumptions["resize"].basis == "assumed" else ""
        yield (
            f"warning: version {old.version} was exported with the resize {old.resize}, this one with"
            f" {new.resize}{forgotten}"
        )
