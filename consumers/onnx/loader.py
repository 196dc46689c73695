"""Loads versions of one model from the repository, on the provider that the settings name."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import Execution, Provider, ProviderError, candidates
from consumers.onnx.repository import StoredVersion, missing, of_release, only_model, passed_over, stored_versions
from stream.settings import ConsumerSettings
from stream.settings import Provider as ProviderSetting

logger = logging.getLogger(__name__)

#: Why a version is not served.
_REFUSALS = (ArtefactError, ProviderError, GoldenMismatch)


class ModelLoader:
    """The repository as one consumer uses it. `gpu` is the number of its GPU, if it has one.

    `stable` is the stable version of the model's release; empty if there is none. It alone is served if it is there.
    `refused` has the versions that `first` left out, and why.
    """

    def __init__(self, settings: ConsumerSettings, gpu: int = 0) -> None:
        self.stable = ""
        self.refused: dict[StoredVersion, Exception] = {}
        self._settings = settings
        self._gpu = gpu
        self._unsuited = candidates(self._execution(settings.provider))[0].unsuited

    def first(self) -> Model:
        """The model that a consumer starts with. Raises ArtefactError, ProviderError or GoldenMismatch.

        A version that fails its checks is left out, as long as another one can be served, unless a setting names it.
        """
        settings = self._settings
        found = self.versions(self.name)
        if not found:
            raise missing(settings.models_dir, self.name, settings.version)
        chosen = of_release(found, self.stable)
        if self.stable not in {"", chosen[0].version}:
            folder = settings.models_dir / self.name
            logger.warning("the release names version %s, which %s does not have: chose version %s",
                           self.stable, folder, chosen[0].version)  # fmt: skip
        others = [one for one in found if one not in chosen]
        model = self._first_that_works([*chosen, *others])
        if worse := passed_over(model.path, found, self.stable):
            logger.warning("chose version %s, and passes over version %s", model.path.parent.name, worse)
        about = model.description
        logger.info("loaded model=%s version=%s provider=%s", about.name, about.version, model.provider.ort_name)
        return model

    @property
    def name(self) -> str:
        """The model's, as its folder has it. Raises ArtefactError if no setting names one of several models."""
        return self._settings.model or only_model(self._settings.models_dir)

    def versions(self, name: str) -> list[StoredVersion]:
        """The versions of the repository, best first; only one if the settings name it. Raises OSError."""
        settings = self._settings
        return stored_versions(settings.models_dir, name, settings.version, unsuited=self._unsuited)

    def load(self, version: StoredVersion, provider: Provider) -> Model:
        """Load a version on the provider of the one before. Raises as `first`, if the file changes too."""
        same: Any = provider.name  # one of the setting's values
        model = self._load(version.path, same)
        if StoredVersion.of(version.path) != version:
            raise ArtefactError(f"{version.path} changed while it was loaded")
        return model

    def _first_that_works(self, versions: Sequence[StoredVersion]) -> Model:
        for version in versions[:-1]:
            try:
                return self._load(version.path)
            except _REFUSALS as error:
                logger.error("version %s is refused, trying the next: %s", version.version, error)  # noqa: TRY400
                self.refused[version] = error
        try:
            return self._load(versions[-1].path)
        except _REFUSALS as error:
            if others := self._not_named():
                raise type(error)(
                    f"{error}. If its file is at fault, name another version (--version {others[0].version}), or none: "
                    "the best that passes its checks is served then"
                ) from error
            raise

    def _not_named(self) -> list[StoredVersion]:
        """The versions that are left out because a setting names another, best first."""
        settings = self._settings
        if not settings.version:
            return []
        found = stored_versions(settings.models_dir, self.name, unsuited=self._unsuited)
        return [one for one in found if one.version != settings.version]

    def _load(self, path: Path, provider: ProviderSetting | None = None) -> Model:
        return Model(path, self._execution(provider or self._settings.provider))

    def _execution(self, provider: ProviderSetting) -> Execution:
        settings = self._settings
        return Execution(
            provider,
            settings.inference_threads,
            settings.max_batch,
            settings.cuda_graphs,
            settings.data_dir,
            self._gpu,
            settings.strict_fp32,
        )
