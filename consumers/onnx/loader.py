"""Loads versions of one model from the repository, on the provider that the settings name."""

import logging
from pathlib import Path
from typing import Any

from consumers.onnx.artefact import ArtefactError
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import Execution, Provider, ProviderError, candidates
from consumers.onnx.repository import StoredVersion, locate, only_model, stored_versions
from stream.settings import ConsumerSettings
from stream.settings import Provider as ProviderSetting

logger = logging.getLogger(__name__)


class ModelLoader:
    """The repository as one consumer uses it. `gpu` is the number of its GPU, if it has one."""

    def __init__(self, settings: ConsumerSettings, gpu: int = 0) -> None:
        self._settings = settings
        self._gpu = gpu
        self._unsuited = candidates(self._execution(settings.provider))[0].unsuited

    def first(self) -> Model:
        """The model that a consumer starts with. Raises ArtefactError, ProviderError or GoldenMismatch.

        With `watch` a version that fails its checks is left out, as long as another one can be served.
        """
        settings = self._settings
        model = self._newest_that_works() if settings.watch else self._load(self._located())
        about = model.description
        logger.info("loaded model=%s version=%s provider=%s", about.name, about.version, model.provider.ort_name)
        return model

    def versions(self, name: str) -> list[StoredVersion]:
        """The versions that may be served, best first; only one if the settings name it. Raises OSError."""
        found = stored_versions(self._settings.models_dir, name, unsuited=self._unsuited)
        wanted = self._settings.version
        return [one for one in found if one.version == wanted] if wanted else found

    def load(self, version: StoredVersion, provider: Provider) -> Model:
        """Load a version on the provider of the one before. Raises as `first`, if its metadata is not its own too."""
        same: Any = provider.name  # one of the setting's values
        model = self._load(version.path, same)
        about = model.description
        if (about.name, about.version) != (version.path.parent.parent.name, version.version):
            raise ArtefactError(
                f"{version.path} says that it is {about.name}/{about.version}: export it under its own version"
            )
        if StoredVersion.of(version.path) != version:
            raise ArtefactError(f"{version.path} changed while it was loaded")
        return model

    def _newest_that_works(self) -> Model:
        name = self._settings.model or only_model(self._settings.models_dir)
        versions = self.versions(name)
        for version in versions[:-1]:
            try:
                return self._load(version.path)
            except (ArtefactError, ProviderError, GoldenMismatch) as error:
                logger.error("version %s is refused, trying the next: %s", version.version, error)  # noqa: TRY400
        return self._load(versions[-1].path if versions else self._located())

    def _located(self) -> Path:
        settings = self._settings
        return locate(settings.models_dir, settings.model, settings.version, unsuited=self._unsuited)

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
