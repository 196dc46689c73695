"""A replayed dead letter, from `python -m results` to its labels."""

import json
import subprocess
import sys

import pytest
from redis.asyncio import Redis

from stream.connection.group_reader import Reader
from stream.keys import MODELS
from stream.settings import RedisSettings
from tests.results.test_dead_letters import Graveyard
from tests.stream.test_group import entry
from tests.support.processes import ROOT, Processes
from tests.support.redis.requests_direct import TINY, assert_right, outcomes, random_images

pytestmark = pytest.mark.anyio


async def test_a_dead_letter_is_replayed_and_classified(
    settings: RedisSettings, client: Redis, reader: Reader, processes: Processes
) -> None:
    """From the grave to its labels: replayed by the command, run by a real consumer, fetched by its id."""
    graveyard = Graveyard(client, reader, TINY)
    await graveyard.open()
    (image,) = random_images(1)
    one = entry(top=0, height=16, width=16, pixels=image.tobytes())
    await graveyard.add(one)
    await client.zadd(MODELS, {TINY.model: 1})
    assert _command(settings, "dead-letters", "replay", one.id).returncode == 0
    queued = _command(settings, "get", one.id, "--json")
    assert json.loads(queued.stdout)["state"] == "queued"
    processes.consumer(version=1).ready()
    (outcome,) = await outcomes(client, [one.id])
    assert_right(outcome, image)
    answer = _command(settings, "get", one.id)
    assert answer.returncode == 0
    assert "class_" in answer.stdout
    assert _command(settings, "dead-letters", "replay", one.id).returncode == 1


def _command(settings: RedisSettings, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m results` as a process, which finds Redis by its environment."""
    command = [sys.executable, "-m", "results", *words]
    environment = {"SLUICE_REDIS_URL": settings.redis_url}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
