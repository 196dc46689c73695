"""Changes the served version while the consumer works, and carries out an operator's requests to load or unload.

While a release names a stable version that is in the repository, no other takes the place of the served one.

Another version is loaded and checked beside the served one, in a thread of its own. If it passes, it takes the place of
the served one between two batches. If not, the served one stays, and the log, the report and a metric say so.
"""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from consumers import metrics
from consumers.context import WorkerContext
from consumers.leases import VersionConflict, refuse_conflict
from consumers.onnx.artefact import ArtefactError
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import GoldenMismatch, Model, ModelFailed, inference_thread
from consumers.onnx.model_file import digest
from consumers.onnx.repository import StoredVersion, of_release, passed_over
from consumers.partition import PartitionWorker
from stream.connection.clients import Backoff
from stream.load_requests import LoadRequest, LoadRequests
from stream.model import ModelDescription
from stream.releases import Releases

logger = logging.getLogger(__name__)

#: Seconds between two looks into the repository, and at an operator's requests. A file that is still being copied
#: differs from one look to the next, and is left alone until it does not.
_POLL_S = 1.0

#: Seconds until a version is tried again that was refused for no fault of its own: the first time, and at most. Each
#: attempt takes a core for a while.
_FIRST_PAUSE_S = 30.0
_LONGEST_PAUSE_S = 1800.0

#: What is wrong with a version itself: it stays so until its file changes.
_FAULTS: Final = (ArtefactError, GoldenMismatch, VersionConflict)

#: Characters of a reason that are reported; the log has all of them.
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a version is not served. It is tried again after `pause_s`, at `again_s` (seconds of the monotonic clock)."""

    reason: str
    pause_s: float = math.inf
    again_s: float = math.inf


class ModelReloader:
    """Looks for other versions of the model, for one worker with these partitions."""

    def __init__(self, context: WorkerContext, loader: ModelLoader, partitions: Sequence[PartitionWorker]) -> None:
        self._context = context
        self._served = context.served
        self._loader = loader
        self._partitions = partitions
        self._requests = LoadRequests(context.connections.shared)
        self._releases = Releases(context.connections.shared)
        self._seen: list[StoredVersion] = []
        self._refused: dict[StoredVersion, _Refusal] = {}
        self._own: StoredVersion | None = None
        self._loading: Future[Model] | None = None

    @property
    def is_loading(self) -> bool:
        """Whether a thread still loads a model; it cannot be interrupted."""
        return self._loading is not None and self._loading.running()

    async def run(self) -> None:
        """Look every second, until cancelled. The first look changes nothing."""
        for version, error in self._loader.refused.items():
            # Without `watch`, only an operator's request tries it again.
            self._refuse(version, error, lasting=not self._context.settings.watch)
        await self._note()
        if self._refused:
            await self._report()
        while True:
            await asyncio.sleep(_POLL_S)
            request, before = await self._request(), self._loader.stable
            await self._follow_release()
            if request.number > self._context.state.load_requests:
                await self._load(request.number)
            elif self._context.settings.watch:
                await self._look()
            elif self._loader.stable != before:
                await self._note()
            if request.unloaded:
                await self._unload()

    async def _request(self) -> LoadRequest:
        try:
            return await self._requests.newest(self._served.description.name)
        except RedisError as error:
            logger.debug("cannot read the requests to load: %s", error)
            return LoadRequest()

    async def _follow_release(self) -> None:
        try:
            name = self._served.description.name
            self._loader.stable = await self._releases.stable(name, before=self._loader.stable)
        except RedisError as error:
            logger.debug("cannot read the release: %s", error)

    async def _note(self) -> None:
        with suppress(OSError):
            self._note_refusals(await asyncio.to_thread(self._loader.versions, self._served.description.name))

    async def _load(self, number: int) -> None:
        """Carry out a request to load: what was refused before is tried again, and an unloaded model comes back."""
        self._refused.clear()
        await self._look(at_once=True)
        if not self._served.model.loaded:
            try:
                await self._served.call(self._served.model.check)
            except ModelFailed as error:
                self._context.state.fail(str(error))
        self._context.state.load_requests = number
        await self._report()

    async def _unload(self) -> None:
        async with self._served.one_batch():
            if self._served.model.loaded and not any(partition.in_flight.held for partition in self._partitions):
                await self._served.call(self._served.model.unload)
                await self._report()

    async def _look(self, *, at_once: bool = False) -> None:
        """Change to the best version that works; `at_once`: also to one that this look is the first to see."""
        mine = self._served.model.path
        try:
            found = await asyncio.to_thread(self._loader.versions, self._served.description.name)
        except OSError as error:
            logger.debug("cannot read the repository: %s", error)
            return
        before, self._seen = self._seen, found
        settled = [version for version in found if at_once or version in before]
        if not at_once and mine in _paths(before) and mine not in _paths(found):
            return  # Perhaps it is just being replaced.
        await self._check_own_file(next((version for version in settled if version.path == mine), None))
        for version in takewhile(lambda version: version.path != mine, of_release(found, self._loader.stable, mine)):
            if version in settled and self._is_due(version) and await self._change(version):
                break
        self._note_refusals(found)

    def _is_due(self, version: StoredVersion) -> bool:
        return version not in self._refused or self._refused[version].again_s <= time.monotonic()

    async def _check_own_file(self, own: StoredVersion | None) -> None:
        """Refuse another file under the served version: the predictions of two models must not have one name."""
        if own is None or own == self._own:
            return
        try:
            found = await asyncio.to_thread(digest, own.path)
        except OSError as error:
            logger.debug("cannot read the served version: %s", error)
            return
        self._own = own
        if found != self._served.description.digest:
            self._refuse(own, ArtefactError("its file was replaced while it was served; export it as the next version"))

    async def _change(self, version: StoredVersion) -> bool:
        """Load a version, check it, and serve it; False if it is refused."""
        thread = inference_thread()
        self._loading = thread.submit(self._loader.load, version, self._served.model.provider)
        try:
            model = await asyncio.wrap_future(self._loading)
            refuse_conflict(model.description, self._served.description)
            _refuse_other_preparation(model.description, self._served.description)
        except Exception as error:  # noqa: BLE001 (whatever a broken file causes, the served version is not to suffer)
            thread.shutdown(wait=False)
            self._refuse(version, error)
            return False
        await self._announce(model)
        before, was_loaded = self._served.description.version, self._served.model.loaded
        await self._served.change(model, thread)
        self._context.sizer.restart(model.image_s)
        self._context.buffers.replace(model.new_buffer)
        if not was_loaded:
            await self._served.call(model.unload)
        metrics.MODEL_CHANGES.labels("changed").inc()
        # A warning, so that `sluice serve` shows it: other predictions are answered from now on.
        about = model.description
        logger.warning("changed model=%s version=%s to %s", about.name, before, about.version)
        await self._report()
        return True

    async def _announce(self, model: Model) -> None:
        """Publish the description, so that ingest knows the labels before the first outcome comes."""
        backoff = Backoff()
        while True:
            work = (partition.announce(model.description) for partition in self._partitions)
            errors = [error for error in await asyncio.gather(*work, return_exceptions=True) if error]
            for error in errors:
                if not isinstance(error, RedisError):
                    raise error
            # Partitions that cannot be reached learn it from a later heartbeat.
            if len(errors) < len(self._partitions):
                return
            logger.log(backoff.next_log_level(errors[0]), "cannot announce the new version: %s", errors[0])
            await backoff.pause()

    def _refuse(self, version: StoredVersion, error: Exception, *, lasting: bool = False) -> None:
        """`lasting`: until its file changes, as for its own faults. Otherwise memory or the disk may be short now."""
        reason = " ".join(str(error).split()) or type(error).__name__
        served = self._served.description.version
        before, again = self._refused.get(version), ""
        pause_s = math.inf
        if not (lasting or isinstance(error, _FAULTS)):
            pause_s = min(2 * before.pause_s, _LONGEST_PAUSE_S) if before else _FIRST_PAUSE_S
            again = f"; tried again after {pause_s:g} s"
        logger.error("stays with version %s: version %s is refused: %s", served, version.version, reason + again)
        metrics.MODEL_CHANGES.labels("refused").inc()
        text = f"{version.version}: {reason}"[:_LONGEST_REASON] + again
        self._refused[version] = _Refusal(text, pause_s, time.monotonic() + pause_s)

    def _note_refusals(self, found: Sequence[StoredVersion]) -> None:
        """Forget the refusals of files that were replaced, removed or left by the release, and report the best
        version's, if any.
        """
        stable, mine = self._loader.stable, self._served.model.path
        wanted = of_release(found, stable, mine)
        self._refused = {version: self._refused[version] for version in wanted if version in self._refused}
        better = [
            one.reason for version, one in self._refused.items() if _rank(wanted, version.path) <= _rank(wanted, mine)
        ]
        self._context.state.refused_version = better[0] if better else ""
        self._context.state.passed_over = passed_over(mine, found, stable)

    async def _report(self) -> None:
        """Send a heartbeat at once; if that fails, the next one says the same."""
        for partition in self._partitions:
            with suppress(RedisError):
                await partition.heartbeat()


def _refuse_other_preparation(mine: ModelDescription, served: ModelDescription) -> None:
    """Raise VersionConflict if images that wait for the served version are of no use to this one."""
    if mine.preparation != served.preparation:
        raise VersionConflict(
            f"it takes images that are prepared differently ({_input(mine)} instead of {_input(served)}): "
            "start another consumer, which takes that version, and then stop this one"
        )


def _input(about: ModelDescription) -> str:
    resize = about.resize
    return f"{about.height} x {about.width} x {about.channels}, {resize.mode}, {resize.interpolation}"


def _paths(versions: Sequence[StoredVersion]) -> set[Path]:
    return {version.path for version in versions}


def _rank(versions: Sequence[StoredVersion], path: Path) -> int:
    """The index of a file among versions, best first; behind all of them if it is not there."""
    return next((index for index, version in enumerate(versions) if version.path == path), len(versions))
