"""`python -m consumers`: serve one model until SIGTERM. `python -m consumers status`: the group at a glance.

Reads the settings, loads the model, wires the worker.
"""

import asyncio
import logging
import os
import signal
import sys

import uvloop

from consumers import metrics, status
from consumers.artefact import ArtefactError, locate
from consumers.health import Health
from consumers.keeper import SizeConflict
from consumers.model import GoldenMismatch, Model
from consumers.provider import Execution, ProviderError
from consumers.worker import Worker
from stream.logs import configure
from stream.settings import Settings, from_command_line

logger = logging.getLogger("consumers")


def main() -> int:
    if sys.argv[1:2] == ["status"]:
        return status.main(sys.argv[2:])
    settings = from_command_line("python -m consumers", sys.argv[1:])
    configure(settings.log_level, settings.log_format)
    try:
        model = load(settings)
    except (ArtefactError, ProviderError, GoldenMismatch) as error:
        print(f"python -m consumers: {error}", file=sys.stderr)
        return 2
    health = Health(settings.lease_s)
    if settings.metrics_port:
        try:
            metrics.listen(settings.host, settings.metrics_port, health)
        except OSError as error:
            print(f"python -m consumers: metrics_port {settings.metrics_port}: {error.strerror}", file=sys.stderr)
            return 2
    return run(model, settings, health)


def load(settings: Settings) -> Model:
    path = locate(settings.models_dir, settings.model, settings.version)
    execution = Execution(
        settings.provider, settings.threads, settings.max_batch, settings.cuda_graphs, settings.data_dir
    )
    model = Model(path, execution)
    about = model.description
    logger.info("loaded model=%s version=%s provider=%s", about.name, about.version, model.provider)
    return model


def run(model: Model, settings: Settings, health: Health) -> int:
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(model, settings, health))
    except SizeConflict as error:
        print(f"python -m consumers: {error}", file=sys.stderr)
        return 2
    except TimeoutError:
        logger.critical("not finished within the grace of %g s; others will claim what is held", settings.grace_s)
        # A thread may still be inside the model, and an orderly exit would wait for it.
        os._exit(1)
    return 0


async def _serve(model: Model, settings: Settings, health: Health) -> None:
    worker = Worker(model, settings, health)
    metrics.REGISTRY.register(worker.figures)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop)
    await worker.run()


if __name__ == "__main__":
    sys.exit(main())
