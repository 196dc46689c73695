"""What a new version changes that its predecessor's clients and consumers would not expect."""

from collections.abc import Iterator
from pathlib import Path

from export.artefact import file, repository
from export.artefact.description import Description


def predecessor(output: Path, description: Description) -> Description | None:
    """The highest other version of this model in the repository; None if there is none that can be read."""
    versions = [one for one in repository.versions(output, name=description.name) if one != description.version]
    if not versions:
        return None
    return file.description(repository.path(output, name=description.name, version=max(versions)))


def warnings(new: Description, old: Description) -> Iterator[str]:
    """One line for each change that may be a mistake."""
    if new.labels != old.labels and sorted(new.labels) == sorted(old.labels):
        yield (
            f"warning: version {old.version} has the same labels in another order. If the new order is wrong, every"
            " answer is wrong"
        )
    if new.resize != old.resize:
        yield (
            f"warning: version {old.version} was exported with the resize {old.resize}, this one with {new.resize}."
            " Consumers with --watch do not change to it while they serve. Was --like forgotten?"
        )
