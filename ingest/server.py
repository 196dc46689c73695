"""Runs the application in uvicorn: one process, or several that share the port."""

import contextlib
import functools
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from ingest.serving import accept_balancing
from ingest.serving.http_protocol import HttpProtocol
from ingest.serving.metrics_folder import metrics_folder
from stream.host import tracing
from stream.host.logs import configure
from stream.host.malloc import keep_freed_memory
from stream.settings import IngestSettings

logger = logging.getLogger(__name__)

#: A request makes some hundred objects and leaves none of them in a reference cycle. Only a failed one may.
_OBJECTS_BETWEEN_COLLECTIONS: Final = 2_000

#: Options of uvicorn for one worker, and for each of several; `plain` workers are started like one worker.
_ALONE: Final[dict[str, Any]] = {"loop": "uvloop", "http": HttpProtocol}
_SHARED: Final[dict[str, Any]] = {
    "loop": "ingest.serving.accept_balancing:BalancingLoop",
    "http": accept_balancing.CountedProtocol,
}


def listen(settings: IngestSettings) -> socket.socket:
    """The socket on which all workers accept connections. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def serve(settings: IngestSettings, listening: socket.socket, *, plain: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, then answer all accepted requests within the grace period.

    Returns the exit status. It is 1 if a worker could not start; its log says why.
    `plain` leaves out accept balancing, which only makes the service faster.
    """
    host, port = listening.getsockname()[:2]
    logger.info("listening on %s port %d", host, port)
    if settings.worker_count == 1:
        _serve_alone(settings, listening)
        return 0
    with metrics_folder() as folder:
        # The workers inherit the variables. prometheus_client reads its own when it is first imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        counts = folder / "connections"
        accept_balancing.ConnectionCounts.create(counts, settings.worker_count)
        os.environ[accept_balancing.PATH_VARIABLE] = str(counts)
        config = _config(settings, folder, _ALONE if plain else _SHARED)
        workers = _Workers(config, sockets=[listening])
        workers.run()
        # Uvicorn stops all workers if one could not start, and says so only in its log.
        return int(any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes))


class _Workers(Multiprocess):
    def terminate_all(self) -> None:
        """As uvicorn's, but refuses new connections from now on.

        As long as the socket is open, the kernel completes connections that no worker accepts, and resets them at last.
        """
        for listening in self.sockets:
            listening.close()
        super().terminate_all()


def _serve_alone(settings: IngestSettings, listening: socket.socket) -> None:
    # Uvicorn raises the signal that ended it again when all is done. A requested stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(_config(settings, None, _ALONE)).run(sockets=[listening])


def _config(settings: IngestSettings, metrics_folder: Path | None, options: dict[str, Any]) -> uvicorn.Config:
    return uvicorn.Config(
        functools.partial(_application, settings, metrics_folder),
        factory=True,
        ws="none",
        workers=settings.worker_count,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
        **options,
    )


def _application(settings: IngestSettings, metrics_folder: Path | None) -> ASGIApp:
    # Runs in each worker process, which starts without its parent's logging configuration. The import is here because
    # the parent of several workers needs none of the application, and the workers start when it has imported its own.
    _end_with_parent()
    _keep_descriptors()
    configure(settings.log_level, settings.log_format)
    try:
        from ingest.app import create_app
    except Exception:  # Packages report a wrong version by exceptions of their own.
        if multiprocessing.parent_process() is None:
            raise
        logger.critical("the application cannot be imported", exc_info=True)
        sys.exit(STARTUP_FAILURE)  # With another status, uvicorn would start the worker again for ever.
    keep_freed_memory()
    app = create_app(settings, metrics_folder, traces=tracing.provider(os.environ, "sluice-ingest"))
    _relieve_garbage_collector()
    return app


def _relieve_garbage_collector() -> None:
    """Collect garbage less often, and not among permanent objects. Python's defaults cost 3 % of a worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


def _end_with_parent() -> None:
    """Make a worker shut down when its parent was killed. Otherwise it would keep the port from the next parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for_end, args=(parent,), daemon=True).start()


def _keep_descriptors() -> None:
    """Give the processes that a worker starts none of the descriptors that it got from its parent, as inheritable ones.

    A decoding process would keep the listening socket open after all workers have closed it.
    """
    if multiprocessing.parent_process() is not None:
        for descriptor in (int(path.name) for path in Path("/dev/fd").iterdir()):
            with contextlib.suppress(OSError):  # That of the listing itself is closed already.
                os.set_inheritable(descriptor, descriptor <= sys.stderr.fileno())


def _wait_for_end(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
