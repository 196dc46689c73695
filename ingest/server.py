"""The HTTP server around the application: uvicorn, in one process or several that share the port."""

import functools
import gc
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import uvicorn
from starlette.middleware import Middleware
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from ingest.serving import accept_balancing as balance
from ingest.serving.write_coalescing import Http
from stream.host import tracing
from stream.host.logs import configure
from stream.host.malloc import keep_freed_memory
from stream.settings import Settings

#: A request makes some hundred objects and leaves none of them in a cycle; only what failed may, with its picture.
_OBJECTS_BETWEEN_COLLECTIONS = 2_000


def listen(settings: Settings) -> socket.socket:
    """The socket that all workers accept on; raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted, within the grace."""
    if settings.worker_count == 1:
        _serve_alone(settings, listening)
        return
    with tempfile.TemporaryDirectory(prefix="sluice-metrics-") as folder:
        # The workers inherit it; prometheus_client looks nowhere else when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        tally = Path(folder) / "connections"
        balance.Tally.create(tally, settings.worker_count)
        os.environ[balance.FILE] = str(tally)
        shared = _config(settings, Path(folder), loop="ingest.serving.accept_balancing:Loop", http=balance.Counted)
        Multiprocess(shared, sockets=[listening]).run()


def _serve_alone(settings: Settings, listening: socket.socket) -> None:
    # Uvicorn raises the signal that ended it once more when all is done; being told to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(_config(settings)).run(sockets=[listening])


def _config(
    settings: Settings,
    metrics_folder: Path | None = None,
    *,
    loop: str = "uvloop",
    http: type[Http] = Http,
) -> uvicorn.Config:
    return uvicorn.Config(
        functools.partial(_application, settings, metrics_folder),
        factory=True,
        loop=loop,
        http=http,
        ws="none",
        workers=settings.worker_count,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
    )


def _application(settings: Settings, metrics_folder: Path | None) -> ASGIApp:
    # Called in each worker process, which starts without the logging of its parent. The application is imported only
    # here: the parent of several workers needs none of it, and they begin once it has imported what it needs.
    from ingest.app import create_app

    _end_with_parent()
    configure(settings.log_level, settings.log_format)
    keep_freed_memory()
    app = create_app(settings, metrics_folder, outermost=_traced())
    _spare_the_collector()
    return app


def _spare_the_collector() -> None:
    """Look for garbage less often, and not among what stays: with Python's defaults it is 3 % of a worker's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)


def _traced() -> list[Middleware]:
    """What traces each request, where traces are wanted."""
    traces = tracing.provider(os.environ, "sluice-ingest")
    if traces is None:
        return []
    from ingest.middleware.tracing import Traced  # Not before: it imports OpenTelemetry.

    return [Middleware(Traced, provider=traces)]


def _end_with_parent() -> None:
    """Let a worker drain and end when its parent was killed: else it would keep the port from the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for_end, args=(parent,), daemon=True).start()


def _wait_for_end(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
