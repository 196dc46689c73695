"""`python -m consumers`: serve one model until SIGTERM. `python -m consumers status`: the group at a glance.

Reads the settings, loads the model, wires the worker.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import uvloop

from consumers import metrics, status
from consumers.gpu import devices as gpus
from consumers.gpu.leases import Seats
from consumers.health import Health
from consumers.inference import Ran
from consumers.leases import SizeConflict
from consumers.onnx.artefact import ArtefactError, locate
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import Execution, ProviderError
from consumers.worker import Worker
from stream.connection.clients import connect
from stream.host import tracing
from stream.host.logs import configure, refuse
from stream.host.scheduling import wait_for_a_free_core
from stream.settings import Settings, from_command_line

logger = logging.getLogger("consumers")


class PortTaken(Exception):
    """The metrics can't be shown where the settings say."""


def main() -> int:
    if sys.argv[1:2] == ["status"]:
        return status.main(sys.argv[2:])
    settings = from_command_line("python -m consumers", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    wait_for_a_free_core()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_consume(settings))
    except (ArtefactError, ProviderError, GoldenMismatch, SizeConflict, PortTaken) as error:
        return refuse("python -m consumers", error, settings.log_format)
    except asyncio.CancelledError:
        logger.info("told to stop before it served")
        # As below: a model that is being loaded can't be told.
        os._exit(0)
    except TimeoutError:
        logger.critical(
            "not finished within the grace of %g s; others will claim what is held", settings.shutdown_grace_s
        )
        # A thread may still be inside the model, and an orderly exit would wait for it.
        os._exit(1)
    return 0


async def _consume(settings: Settings) -> None:
    serving = asyncio.current_task()
    assert serving
    # From the beginning: a container's first process is spared by signals that it has no handler for.
    _when_told(serving.cancel)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    found = gpus.visible() if settings.provider != "cpu" else []
    if isinstance(settings.device, int) and settings.device >= len(found):
        raise ProviderError(f"there is no GPU {settings.device}: the driver shows {len(found)}")
    if not found:
        await _serve(await _load(settings), settings, name)
        return
    async with connect(settings) as redis:
        seats = Seats(
            redis,
            found,
            consumer=name,
            lease_s=settings.lease_s,
            per_gpu=settings.consumers_per_gpu,
            chosen=None if settings.device == "auto" else settings.device,
        )
        async with seats.taken() as seat:
            model = await _load(settings, seat.gpu)
            if model.provider != "CPUExecutionProvider":
                await _serve(model, settings, name)
                return
    # The GPU does not work for us, which the log says; another's consumer may do better there.
    await _serve(model, settings, name)


async def _load(settings: Settings, gpu: int = 0) -> Model:
    """Load beside the event loop: a provider may build engines for minutes. A seat is kept, and signals are heard."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
    return await asyncio.get_running_loop().run_in_executor(thread, load, settings, gpu)


def load(settings: Settings, gpu: int = 0) -> Model:
    path = locate(settings.models_dir, settings.model, settings.version)
    execution = Execution(
        settings.provider, settings.inference_threads, settings.max_batch, settings.cuda_graphs, settings.data_dir, gpu
    )
    model = Model(path, execution)
    about = model.description
    logger.info("loaded model=%s version=%s provider=%s", about.name, about.version, model.provider)
    return model


async def _serve(model: Model, settings: Settings, name: str) -> None:
    health = Health(settings.lease_s)
    if settings.metrics_port:
        try:
            metrics.listen(settings.host, settings.metrics_port, health)
        except OSError as error:
            raise PortTaken(f"metrics_port {settings.metrics_port}: {error.strerror}") from error
    worker = Worker(model, settings, health, name=name, traces=_traces(model, name))
    metrics.REGISTRY.register(worker.figures)
    _when_told(worker.stop)
    await worker.run()


def _when_told(stop: Callable[[], object]) -> None:
    """Stop so from here on, on SIGTERM and on SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _traces(model: Model, name: str) -> Ran | None:
    provider = tracing.provider(os.environ, "sluice-consumer", sample_all=True)
    if provider is None:
        return None
    from consumers.tracing import Traces  # Not before: it imports OpenTelemetry.

    return Traces(provider, model.description, execution=model.provider, consumer=name)


if __name__ == "__main__":
    sys.exit(main())
