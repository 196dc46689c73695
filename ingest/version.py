"""The release of Sluice that runs."""

from importlib.metadata import PackageNotFoundError, version


def own_version() -> str:
    try:
        return version("sluice-serving")
    except PackageNotFoundError:  # run from the sources
        return "unknown"
