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
from concurrent.futures import ThreadPoolExecutor

import uvloop

from consumers import metrics, status
from consumers.context import BatchTracer
from consumers.gpu import devices as gpus
from consumers.gpu.leases import GpuLeases
from consumers.health import Health
from consumers.leases import VersionConflict
from consumers.onnx.artefact import ArtefactError, locate
from consumers.onnx.model import GoldenMismatch, Model
from consumers.onnx.providers import Execution, ProviderError, candidates, require_cuda
from consumers.worker import ConsumerFailed, Worker
from stream.cli import from_command_line, refuse
from stream.connection.clients import connect
from stream.host import tracing
from stream.host.cpu import use_batch_scheduling
from stream.host.logs import configure
from stream.server_check import ServerRefused
from stream.settings import ConsumerSettings

logger = logging.getLogger("consumers")


class PortTaken(Exception):
    """Metrics cannot be served on the port that the settings name."""


def main() -> int:
    if sys.argv[1:2] == ["status"]:
        return status.main(sys.argv[2:])
    settings = from_command_line(ConsumerSettings, "python -m consumers", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    use_batch_scheduling()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_consume(settings))
    except (ArtefactError, ProviderError, GoldenMismatch, VersionConflict, PortTaken, ServerRefused) as error:
        return refuse("python -m consumers", error, settings.log_format)
    except ConsumerFailed as error:
        logger.critical(
            "%s; this consumer exits with status %d so that its supervisor restarts it", error, os.EX_TEMPFAIL
        )
        return os.EX_TEMPFAIL
    except asyncio.CancelledError:
        logger.info("stopped before it was ready")
        # As below: the loading of a model cannot be interrupted.
        os._exit(0)
    except TimeoutError:
        logger.critical(
            "not finished within shutdown_grace_s (%g s); other consumers will claim its entries",
            settings.shutdown_grace_s,
        )
        # A thread may still be inside the model, and an orderly exit would wait for it.
        os._exit(1)
    return 0


async def _consume(settings: ConsumerSettings) -> None:
    serving = asyncio.current_task()
    assert serving
    # From the beginning: the kernel ignores signals to a container's first process for which it has no handler.
    _on_stop_signal(serving.cancel)
    # One thread loads, checks and runs the model: CUDA graphs belong to the thread that captured them.
    executor = ThreadPoolExecutor(1, thread_name_prefix="inference")
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    found = gpus.visible() if settings.provider != "cpu" else []
    if isinstance(settings.device, int) and settings.device >= len(found):
        raise ProviderError(f"there is no GPU {settings.device}: the driver shows {len(found)}")
    if not found:
        await _serve(await _load(settings, executor), settings, name, executor)
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
            model = await _load(settings, executor, lease.gpu)
            if model.provider.on_gpu:
                await _serve(model, settings, name, executor)
                return
    # The model does not run on the GPU, which the log says; another model's consumer may use it.
    await _serve(model, settings, name, executor)


async def _load(settings: ConsumerSettings, executor: ThreadPoolExecutor, gpu: int = 0) -> Model:
    """Load beside the event loop, which renews the GPU lease and handles signals: engines may take minutes to build."""
    return await asyncio.get_running_loop().run_in_executor(executor, load, settings, gpu)


def load(settings: ConsumerSettings, gpu: int = 0) -> Model:
    execution = Execution(
        settings.provider,
        settings.inference_threads,
        settings.max_batch,
        settings.cuda_graphs,
        settings.data_dir,
        gpu,
        settings.strict_fp32,
    )
    unsuited = candidates(execution)[0].unsuited
    path = locate(settings.models_dir, settings.model, settings.version, unsuited=unsuited)
    model = Model(path, execution)
    about = model.description
    logger.info("loaded model=%s version=%s provider=%s", about.name, about.version, model.provider.ort_name)
    return model


async def _serve(model: Model, settings: ConsumerSettings, name: str, executor: ThreadPoolExecutor) -> None:
    health = Health(settings.lease_s)
    if settings.metrics_port:
        try:
            metrics.listen(settings.host, settings.metrics_port, health)
        except OSError as error:
            raise PortTaken(f"metrics_port {settings.metrics_port}: {error.strerror}") from error
    worker = Worker(model, settings, health, name=name, executor=executor, tracer=_tracer(model, name))
    metrics.REGISTRY.register(worker.collector)
    _on_stop_signal(worker.stop)
    await worker.run()


def _on_stop_signal(stop: Callable[[], object]) -> None:
    """From here on, call this on SIGTERM and on SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _tracer(model: Model, name: str) -> BatchTracer | None:
    traces = tracing.provider(os.environ, "sluice-consumer", sample_all=True)
    if traces is None:
        return None
    from consumers.tracing import OpenTelemetryTracer  # Only here: it imports OpenTelemetry.

    return OpenTelemetryTracer(traces, model.description, provider=model.provider.ort_name, consumer=name)


if __name__ == "__main__":
    sys.exit(main())
