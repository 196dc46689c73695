"""`python -m consumers`: serve one model until SIGTERM. `python -m consumers status`: show a model's consumers.

Reads the settings, acquires a GPU lease where there are GPUs, loads the model and runs the worker.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

import uvloop
from redis.exceptions import RedisError, ResponseError

from consumers import metrics, status
from consumers.context import BatchTracer
from consumers.gpu import devices as gpus
from consumers.gpu.leases import GpuLeases
from consumers.health import Health
from consumers.leases import VersionConflict
from consumers.onnx.artefact import ArtefactError
from consumers.onnx.loader import ModelLoader
from consumers.onnx.model import GoldenMismatch, ServedModel, inference_thread
from consumers.onnx.providers import ProviderError, require_cuda
from consumers.worker import ConsumerFailed, Worker
from stream.cli import from_command_line, refuse
from stream.connection.clients import AT_START, Backoff, connect
from stream.embedded.run_file import missed_service
from stream.host import tracing
from stream.host.logs import configure
from stream.releases import Releases
from stream.server_check import ServerRefused
from stream.settings import ConsumerSettings
from stream.settings.variables import warn_of_unknown_variables
from stream.unreadable import lacks_rights, with_remedy

logger = logging.getLogger("consumers")

#: How Redis refuses the number of a database at the end of its URL.
_NO_DATABASE: Final = ("DB index", "SELECT is not allowed")


class PortTaken(Exception):
    """Metrics cannot be served on the port that the settings name."""


class StoppedWhileLoading(Exception):
    """All is done, but the loading of another version goes on in its thread."""


def main() -> int:
    if sys.argv[1:2] == ["status"]:
        return status.main(sys.argv[2:])
    settings = from_command_line(ConsumerSettings, "python -m consumers", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    warn_of_unknown_variables(os.environ)
    if missed := missed_service(settings):
        here = settings.data_dir
        logger.warning("no server in %s, but a service runs in %s: join it with --data-dir %s", here, missed, missed)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_consume(settings))
    except (ArtefactError, ProviderError, GoldenMismatch, VersionConflict, PortTaken, ServerRefused) as error:
        return refuse("python -m consumers", error, settings.log_format)
    except ConsumerFailed as error:
        return _restart(str(error))
    except ResponseError as error:
        if str(error).startswith(_NO_DATABASE):
            return refuse("python -m consumers", f"redis_url: {error}", settings.log_format)
        if not lacks_rights(error):
            raise
        return _restart(f"Redis refuses a command of this consumer: {with_remedy(error)}")
    except (asyncio.CancelledError, StoppedWhileLoading) as stopped:
        if isinstance(stopped, asyncio.CancelledError):
            logger.info("stopped before it was ready")
        # As below: the loading of a model cannot be interrupted.
        os._exit(0)
    except TimeoutError:
        logger.critical(
            "not finished within shutdown_grace_s (%g s); other consumers take its entries over",
            settings.shutdown_grace_s,
        )
        # A thread may still be inside the model, and an orderly exit would wait for it.
        os._exit(1)
    return 0


def _restart(why: str) -> int:
    """The status with which a supervisor restarts the consumer."""
    logger.critical("%s; this consumer exits with status %d so that its supervisor restarts it", why, os.EX_TEMPFAIL)
    return os.EX_TEMPFAIL


async def _consume(settings: ConsumerSettings) -> None:
    serving = asyncio.current_task()
    assert serving
    # From the beginning: the kernel ignores signals to a container's first process for which it has no handler.
    _on_stop_signal(serving.cancel)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    found = gpus.visible() if settings.provider != "cpu" else []
    if isinstance(settings.device, int) and settings.device >= len(found):
        raise ProviderError(f"there is no GPU {settings.device}: the driver shows {len(found)}")
    if not found:
        await _load_and_serve(settings, name)
        return
    if settings.provider != "auto":
        # Before it waits for a lease, or for Redis: an unsuitable driver or a missing library will not change.
        require_cuda(0 if settings.device == "auto" else settings.device)
    async with connect(settings) as redis:
        leases = GpuLeases(
            redis,
            found,
            consumer=name,
            lease_s=settings.lease_s,
            per_gpu=settings.consumers_per_gpu,
            chosen=None if settings.device == "auto" else settings.device,
        )
        async with leases.acquired() as lease:
            loader = ModelLoader(settings, lease.gpu)
            await _follow_release(loader, settings)
            served = await load(loader)
            if served.model.provider.on_gpu:
                await _serve(served, loader, settings, name)
                return
    # The model does not run on the GPU, which the log says; another model's consumer may use it.
    await _serve(served, loader, settings, name)


async def _load_and_serve(settings: ConsumerSettings, name: str) -> None:
    loader = ModelLoader(settings)
    await _follow_release(loader, settings)
    await _serve(await load(loader), loader, settings, name)


async def _follow_release(loader: ModelLoader, settings: ConsumerSettings) -> None:
    """Tell the loader which version is stable, unless a setting names the version; waits while Redis is unavailable.

    Without this, a consumer that starts again would serve the version that a rollback has withdrawn.
    """
    if settings.version:
        return
    backoff = Backoff(quiet=AT_START)
    async with connect(settings) as redis:
        while True:
            try:
                loader.stable = await Releases(redis).stable(loader.name)
            except RedisError as error:
                await backoff.wait_for_redis(error)
            else:
                return


async def load(loader: ModelLoader) -> ServedModel:
    """Load beside the event loop, which renews the GPU lease and handles signals: engines may take minutes to build."""
    thread = inference_thread()
    return ServedModel(await asyncio.get_running_loop().run_in_executor(thread, loader.first), thread)


async def _serve(served: ServedModel, loader: ModelLoader, settings: ConsumerSettings, name: str) -> None:
    health = Health(settings.lease_s)
    if settings.metrics_port:
        try:
            metrics.listen(settings.host, settings.metrics_port, health)
        except OSError as error:
            raise PortTaken(
                f"metrics_port {settings.metrics_port}: {error.strerror}. Give each consumer of a host its own, or none"
            ) from error
    worker = Worker(served, settings, health, name=name, loader=loader, tracer=_tracer(name))
    metrics.REGISTRY.register(worker.collector)
    _on_stop_signal(worker.stop)
    await worker.run()
    if worker.is_loading:
        raise StoppedWhileLoading


def _on_stop_signal(stop: Callable[[], object]) -> None:
    """From here on, call this on SIGTERM and on SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _tracer(name: str) -> BatchTracer | None:
    traces = tracing.provider(os.environ, "sluice-consumer", sample_all=True)
    if traces is None:
        return None
    from consumers.tracing import OpenTelemetryTracer  # Only here: it imports OpenTelemetry.

    return OpenTelemetryTracer(traces, consumer=name)


if __name__ == "__main__":
    sys.exit(main())
