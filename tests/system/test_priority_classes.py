"""Interactive images beside a queue of bulk images, over a real server and a consumer that takes its time."""

import pytest
from redis.asyncio import Redis

from bench.priority_classes import Load, start_consumers
from tests.support.processes import Processes

pytestmark = pytest.mark.anyio


async def test_interactive_images_do_not_wait_for_the_bulk_images_before_them(
    processes: Processes, client: Redis
) -> None:
    """At most for the batch that runs; and bulk images get the time that is left. All predictions are right."""
    start_consumers(processes, 1)
    figures = await Load(client, consumers=1).run(bulk=300, idle_s=0.5)
    waited_for = figures.batches_waited_for()
    assert len(waited_for) > 10
    # One batch may begin between the last look into the queue and an image that came just then.
    assert max(waited_for) <= 1
    assert waited_for.count(0) >= 0.7 * len(waited_for)
    assert figures.bulk_part(100) > 0.4
