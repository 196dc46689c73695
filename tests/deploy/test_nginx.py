"""nginx before three ingests: Debian's, with the configuration and the command that compose gives to its container."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import httpx
import numpy as np
import pytest
import redis
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from stream.settings import IngestSettings
from tests.ingest.test_app import png, ranked
from tests.support import grpc_service
from tests.support.containers import ROOT, composed, seconds
from tests.support.models import tiny_model
from tests.support.processes import Process, Processes
from tests.support.redis.certificates import Authority
from tests.support.redis.requests_direct import TINY, random_images
from tests.support.redis.servers import Server, free_port
from tests.support.waiting import wait_until

FOLDER = ROOT / "deploy/nginx"
CLIENTS = 8
REQUESTS = 90


class Balancer:
    """The container's nginx as a process: its own port and list of ingests, all else as it is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.grpc = f"127.0.0.1:{free_port()}"
        self._process: Process | None = None

    def start(self, *ingests: str, grpc_ingests: Sequence[str] = ("127.0.0.1:1",)) -> None:
        found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        assert found, "nginx is needed: Debian's package nginx-light"
        etc, prefix = self._folder / "etc", self._folder / "prefix"
        shutil.copytree(FOLDER, etc)
        prefix.mkdir()
        (etc / "listen.conf").write_text(f"listen {self._port};")
        (etc / "ingests.conf").write_text("".join(f"server {url.removeprefix('http://')};" for url in ingests))
        (etc / "grpc_listen.conf").write_text(f"listen {self.grpc} http2;")
        (etc / "grpc_ingests.conf").write_text("".join(f"server {address};" for address in grpc_ingests))
        self._process = Process([found, *self._words(etc, prefix)], dict(os.environ), self._folder / "nginx.log")
        wait_until(self._answers, "nginx answers")

    def _words(self, etc: Path, prefix: Path) -> list[str]:
        service = composed()["nginx"]
        mounted = {target: etc for _, target, _ in (one.split(":") for one in service["volumes"])}
        here = {**{target: str(path) for target, path in mounted.items()}, "/tmp": str(prefix)}  # noqa: S108
        _nginx, *words = service["entrypoint"]
        words = [re.sub("|".join(here), lambda found: here[found[0]], word) for word in words]
        # Started by root, nginx would make its workers nobody's, who cannot enter the test's folder.
        return [word + " user root;" if word == "daemon off;" and os.geteuid() == 0 else word for word in words]

    def _answers(self) -> bool:
        assert self._process
        assert self._process.status is None, self._process.text
        with suppress(httpx.TransportError):
            return bool(httpx.get(f"{self.url}/healthz", timeout=10).status_code)
        return False

    def kill(self) -> None:
        if self._process and self._process.status is None:
            self._process.stop()


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    balancer = Balancer(tmp_path)
    yield balancer
    balancer.kill()


def test_requests_are_spread_and_no_result_is_lost_with_an_ingest(
    balancer: Balancer, processes: Processes, server: Server
) -> None:
    """One of three is killed under load: what it had in hand fails, is sent again with its key, and is computed once.

    Each result can be fetched from any of the others.
    """
    processes.consumer(rogue="slow", version=1)
    ingests = [processes.ingest() for _ in range(3)]
    balancer.start(*(url for _, url in ingests))
    images = random_images(REQUESTS)
    numbers, failed = count(), list[int]()

    def work() -> list[dict[str, object]]:
        answers = []
        with httpx.Client(base_url=balancer.url, timeout=60) as client:
            while (number := next(numbers)) < REQUESTS:
                answers.append(_until_answered(client, png(images[number]), failed) | {"number": number})
        return answers

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients, redis.Redis.from_url(server.url) as client:
        working = [clients.submit(work) for _ in range(CLIENTS)]
        wait_until(lambda: _completed(client) > REQUESTS // 3, "a third is done")
        served = [_requests(url) for _, url in ingests]
        assert min(served) >= REQUESTS // 3 // 10, "each has its share"
        ingests[0][0].kill()
        answers = [answer for one in working for answer in one.result()]
        assert _completed(client) == REQUESTS
    assert len(failed) <= CLIENTS
    assert len({str(answer["id"]) for answer in answers}) == len(answers) == REQUESTS
    for answer in answers:
        number = answer.pop("number")
        assert isinstance(number, int)
        assert answer["predictions"] == ranked(images[number])
    for answer in answers[::10]:
        for url in (balancer.url, ingests[1][1], ingests[2][1]):
            assert httpx.get(f"{url}/results/{answer['id']}").json() == answer


def _until_answered(client: httpx.Client, body: bytes, failed: list[int]) -> dict[str, object]:
    """One image under one key, sent again until an ingest says what became of it."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    while True:
        answer = client.post("/predict", content=body, headers=key)
        if answer.status_code == 200:
            document: dict[str, object] = answer.json()
            return document
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (502, "bad_gateway", "2")
        failed.append(answer.status_code)


def _completed(client: redis.Redis) -> int:
    return int(client.hget(TINY.counters, "completed") or 0)


def _requests(url: str, route: str = "/predict") -> int:
    """How many requests this ingest has answered for."""
    series = re.escape(f'sluice_requests_total{{route="{route}",status="200"}}')
    counted = re.findall(rf"^{series} (\S+)", _metrics(url), re.MULTILINE)
    return int(float(counted[0])) if counted else 0


def _metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=30).text


def test_what_waits_can_be_fetched_after_its_ingest_was_killed(balancer: Balancer, processes: Processes) -> None:
    """Accepted is accepted: the others answer for it, and nginx asks one of them where it met the dead one."""
    processes.consumer(rogue="slow", version=1)
    ingests = [processes.ingest() for _ in range(2)]
    balancer.start(*(url for _, url in ingests))
    images = random_images(12)
    with httpx.Client(base_url=balancer.url, timeout=30) as client:
        headers = {"Prefer": "respond-async"}
        locations = [client.post("/predict", content=png(one), headers=headers).headers["location"] for one in images]
        ingests[0][0].kill()
        answers = [client.get(location, headers={"Prefer": "wait=20"}) for location in locations]
        assert [one.json().get("predictions") for one in answers] == [ranked(image) for image in images]


def test_what_ingest_says_arrives_as_it_says_it(balancer: Balancer, processes: Processes) -> None:
    """Events pass one by one, and a client is limited by its own address, whatever it claims."""
    trusted = composed()["ingest"]["environment"]["SLUICE_TRUSTED_PROXIES"]
    ingest, url = processes.ingest(ready=False, rate_limit_per_s=0.001, rate_limit_burst=6, trusted_proxies=trusted)
    balancer.start(url)
    with httpx.stream("GET", f"{balancer.url}/live", timeout=30) as live:
        chunks = live.iter_raw()
        events = [next(chunks) for _ in range(3)]
    assert all(event.count(b"data:") <= 1 for event in events)
    transports = [httpx.HTTPTransport(local_address=f"127.0.0.{number}") for number in (2, 3)]
    one, other = (httpx.Client(base_url=balancer.url, transport=transport) for transport in transports)
    with one, other:
        claims = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(7)]
        statuses = [one.get("/models", headers=claim).status_code for claim in claims]
        assert statuses.index(429) == 6
        assert other.get("/models").status_code != 429
    ingest.kill()
    gone = httpx.get(f"{balancer.url}/healthz", timeout=30)
    assert (gone.status_code, gone.json()["code"], gone.json()["success"]) == (502, "bad_gateway", False)
    assert gone.headers["content-type"] == "application/problem+json"
    assert gone.headers["x-request-id"]


def test_what_is_too_large_is_refused_in_the_words_of_ingest(balancer: Balancer, processes: Processes) -> None:
    """At the same byte; what is refused by ingest itself leaves the client's connection as it was."""
    processes.consumer(version=1)
    _, url = processes.ingest()
    balancer.start(url)
    most = bytes(IngestSettings().max_upload_bytes)
    with httpx.Client(timeout=60) as client:
        for path in ("/predict", "/v2/models/tiny/infer"):
            direct, passed = (client.post(one + path, content=most + b"x") for one in (url, balancer.url))
            assert direct.status_code == passed.status_code == 413
            words = passed.json()
            assert direct.json().items() <= words.items()
            assert words["detail"] == words["error"]
            assert passed.headers["content-type"] == "application/problem+json"
            assert passed.headers["x-request-id"]
            direct, passed = (client.post(one + path, content=most) for one in (url, balancer.url))
            assert (passed.status_code, passed.json()) == (direct.status_code, direct.json())
        for size in (300_000, 3_000_000) * 10:
            refused = client.post(f"{balancer.url}/predict?top=0", content=most[:size])
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_parameter")


def _times() -> dict[str, int]:
    """The directives of nginx.conf that are so many seconds."""
    found = re.findall(r"^ +(\w+) (\d+)s;|^(\w+) (\d+)s;", (FOLDER / "nginx.conf").read_text(), re.MULTILINE)
    return {name or top: int(value or of_top) for name, value, top, of_top in found}


def test_calls_of_one_connection_are_spread_and_name_their_client(balancer: Balancer, processes: Processes) -> None:
    """gRPC. The limit counts the address that nginx saw; without an ingest, a call is unavailable."""
    processes.consumer(version=1)
    ingests = [grpc_service.ingest(processes, rate_limit_per_s=0.001, rate_limit_burst=20) for _ in range(2)]
    balancer.start(*(url for _, _, url in ingests), grpc_ingests=[address for _, address, _ in ingests])
    images = random_images(3)
    claimed = {"x-forwarded-for": "198.51.100.7"}
    with triton.InferenceServerClient(balancer.grpc) as client:
        for _ in range(20):
            answer = client.infer("tiny", grpc_service.tensor(images), headers=claimed).as_numpy("probabilities")
            np.testing.assert_allclose(answer, tiny_model.expected(images, tiny_model.weights(seed=7)), atol=1e-5)
        answered = [_requests(url, "/inference.GRPCInferenceService/ModelInfer") for _, _, url in ingests]
        assert (sum(answered), min(answered) >= 2) == (20, True)
        with pytest.raises(InferenceServerException, match="The rate limit is reached"):
            client.infer("tiny", grpc_service.tensor(images), headers={"x-forwarded-for": "198.51.100.8"})
        for process, _, _ in ingests:
            process.kill()
        with pytest.raises(InferenceServerException, match="No ingest can be reached") as raised:
            client.infer("tiny", grpc_service.tensor(images))
        assert raised.value.status() == "StatusCode.UNAVAILABLE"


def test_its_times_fit_ours() -> None:
    """The one with the shorter time-out responds: that must be ingest, except for idle connections."""
    times, ours = _times(), IngestSettings()
    longest_s = ours.request_timeout_s + ours.redis_timeout_s
    assert f" client_max_body_size {ours.max_upload_bytes // 2**20}m;" in (FOLDER / "nginx.conf").read_text()
    assert times["client_body_timeout"] == ours.upload_timeout_s
    assert min(times["proxy_read_timeout"], times["worker_shutdown_timeout"]) > longest_s
    assert times["proxy_send_timeout"] > ours.upload_timeout_s
    assert times["worker_shutdown_timeout"] < seconds(composed()["nginx"]["stop_grace_period"])
    assert times["keepalive_timeout"] < ours.keep_alive_s


def test_ingest_is_found_where_compose_has_it() -> None:
    """By its name and port, behind the one service that is published."""
    port = IngestSettings.model_fields["port"].default
    assert f"server ingest:{port} resolve;" in (FOLDER / "ingests.conf").read_text()
    assert f"listen {port};" in (FOLDER / "listen.conf").read_text()
    grpc_port = composed()["ingest"]["environment"]["SLUICE_GRPC_PORT"]
    assert f"server ingest:{grpc_port} resolve;" in (FOLDER / "grpc_ingests.conf").read_text()
    assert f"listen {grpc_port} http2;" in (FOLDER / "grpc_listen.conf").read_text()
    assert composed()["nginx"]["ports"][1].endswith(f":{grpc_port}")
    published = [name for name, service in composed().items() if "ports" in service]
    assert published == ["nginx"]
    assert composed()["nginx"]["ports"][0].endswith(f":{port}")
    assert set(composed()["nginx"]["networks"]) & set(composed()["ingest"]["networks"])


@pytest.mark.parametrize("tls", [False, True])
def test_nginx_accepts_the_files_for_hosts_and_the_block_for_operators(tls: bool, tmp_path: Path) -> None:
    """The four files of the folder `hosts` in place of those for Docker, with and without their lines for TLS."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    shutil.copytree(FOLDER / "hosts", tmp_path, dirs_exist_ok=True)
    certificate = Authority(tmp_path).issue("nginx") if tls else None
    for listen in tmp_path.glob("*listen.conf"):
        text = listen.read_text()
        if certificate:
            text = re.sub(r"^listen.*\n", "", text, flags=re.MULTILINE).replace("# listen", "listen")
            text = text.replace("# ssl", "ssl").replace("/etc/ssl/images.pem", str(certificate.certificate))
            text = text.replace("/etc/ssl/private/images.key", str(certificate.key))
        # The runbook's line of a log with times.
        listen.write_text(text + ("" if listen.name.startswith("grpc") else "access_log access.log timing;\n"))
    (block,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/security.md").read_text(), flags=re.DOTALL)
    configuration = tmp_path / "nginx.conf"
    before = "        location / {\n            # Events"
    assert configuration.read_text().count(before) == 1
    configuration.write_text(configuration.read_text().replace(before, block + before))
    checked = subprocess.run(
        [found, "-t", "-p", str(tmp_path), "-c", str(configuration)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
