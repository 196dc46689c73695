"""Versions that want images prepared differently replace each other under load.

Each answer must be that of the version that it names, to an image prepared for that version, and no request may fail.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from tritonclient import grpc as triton

from tests.support.grpc_service import ingest
from tests.support.images import encoded
from tests.support.models import mean_model
from tests.support.processes import Processes, on_own_server
from tests.support.waiting import wait_until

#: An image three times as wide as high: dark, grey and bright thirds.
IMAGE = encoded(Image.fromarray(np.repeat(np.array([[30, 90, 240]] * 16, np.uint8), 16, axis=1)).convert("RGB"), "PNG")

#: How each version resizes, and what its model then answers: the mean of what it sees.
VERSIONS = {"1": ("squash", 8, 120.0), "2": ("crop_to_aspect_ratio", 8, 90.0), "3": ("pad_to_aspect_ratio", 12, 40.0)}

HEADERS = {"Content-Type": "image/png"}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    for version, (mode, size, _) in VERSIONS.items():
        mean_model.build(
            tmp_path, "mean", output_kind="values", channels=3, version=version, size=size, resize={"mode": mode}
        )
    with on_own_server(tmp_path, tmp_path) as started:
        yield started


class Load:
    """Clients that send one image after the other: some wait for the answer, one comes back for it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ending = threading.Event()
        self.answers: list[str] = []
        self.queued: list[str] = []
        self.problems: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run, args=(asynchronous,)) for asynchronous in (False, False, True)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in threads:
                thread.join()

    def _run(self, asynchronous: bool) -> None:
        headers = {**HEADERS, "Prefer": "respond-async"} if asynchronous else HEADERS
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._ending.is_set():
                response = client.post("/predict", content=IMAGE, headers=headers)
                if response.status_code == 202:
                    self.queued.append(response.json()["location"])
                    time.sleep(0.01)
                else:
                    self.check(response)

    def check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            self.problems.append(response.text)
            return
        version, values = response.json()["version"], response.json()["values"]
        if values != pytest.approx([VERSIONS[version][2]] * 3, abs=1):
            self.problems.append(f"version {version} answered {values}")
        self.answers.append(version)

    def wait_for(self, version: str, count: int = 20) -> None:
        """Until so many more answers in a row come from this version."""
        before = len(self.answers)
        wait_until(
            lambda: bool(self.problems) or self.answers[before:][-count:] == [version] * count,
            f"version {version} answers", timeout_s=30,
        )  # fmt: skip
        assert not self.problems


def test_rolling_changes_of_version_fail_no_request(processes: Processes) -> None:
    """A downgrade and an upgrade: the other version joins, both are served for a while, and the first one leaves."""
    served, before = "2", processes.consumer(model="mean", max_batch=4, version="2")
    _, url = processes.ingest(model="mean")
    load = Load(url)
    with load.running():
        load.wait_for(served)
        for joining in ("1", "3"):
            joined = processes.consumer(model="mean", max_batch=4, version=joining).ready()
            load.wait_for(max(served, joining))
            assert before.stop() == 0, before.text
            load.wait_for(joining)
            served, before = joining, joined
    with httpx.Client(base_url=url) as client:
        for location in load.queued:
            load.check(client.get(location, headers={"Prefer": "wait=20"}))
    assert not load.problems
    assert load.queued


def described_sizes(url: str, grpc_address: str, version: str) -> list[int]:
    """The height of the input of this version, by each description of it."""
    model = httpx.get(f"{url}/v2/models/mean/versions/{version}").json()
    configuration = httpx.get(f"{url}/v2/models/mean/versions/{version}/config").json()
    tensorflow = httpx.get(f"{url}/v1/models/mean/versions/{version}/metadata").json()
    (inputs,) = tensorflow["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"].values()
    listed = {one["version"]: one["input"]["height"] for one in httpx.get(f"{url}/models").json()["models"]}
    with triton.InferenceServerClient(grpc_address) as client:
        by_grpc = client.get_model_metadata("mean", version), client.get_model_config("mean", version).config
    return [
        model["inputs"][0]["shape"][1],
        configuration["input"][0]["dims"][0],
        int(inputs["tensor_shape"]["dim"][1]["size"]),
        listed[version],
        by_grpc[0].inputs[0].shape[1],
        by_grpc[1].input[0].dims[0],
    ]


def test_images_for_a_version_whose_consumers_died_are_prepared_again(processes: Processes) -> None:
    """Consumers of another version refuse them, and ingest has the file still. It is not run as it is.

    While both are served, each is described with its own input size.
    """
    newest, _ = (
        processes.consumer(model="mean", version=version, lease_s=1.5, redis_timeout_s=1) for version in ("3", "1")
    )
    _, address, url = ingest(processes, model="mean", redis_timeout_s=1)
    wait_until(lambda: len(httpx.get(f"{url}/models").json()["models"]) == 2, "both versions are served")
    for version in ("1", "3"):
        assert described_sizes(url, address, version) == [VERSIONS[version][1]] * 6
    load = Load(url)
    with load.running():
        load.wait_for("3")
        newest.kill()
        wait_until(lambda: load.answers[-20:] == ["1"] * 20, "version 1 answers", timeout_s=30)
    assert not load.problems
