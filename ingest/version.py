"""The release of Sluice that runs."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    try:
        return version("sluice")
    except PackageNotFoundError:  # run from the sources
        return "unknown"
