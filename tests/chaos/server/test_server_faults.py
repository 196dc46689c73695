"""What the faults of the chaos test do, and what its audit says of them."""

import pytest
from redis.asyncio import Redis

from results.outcome import Done, Failed
from stream.admission import Admission
from stream.entry import Entry
from stream.keys import Partition
from tests.chaos.audit import Audit
from tests.chaos.server.server_faults import delete_oldest_request

pytestmark = pytest.mark.anyio

DONE = Done("a", "1", "cpu", (1,), (0.5,), 1, 0.0, 0.0)


async def test_the_request_that_is_deleted_waits(client: Redis, partition: Partition) -> None:
    """Its state goes, and its entry stays. Without an entry, nothing is deleted."""
    assert await delete_oldest_request(client, partition) == "none"
    admission = Admission(client, partition, result_ttl_s=60)
    for request_id in ("a" * 32, "b" * 32):
        entry = Entry(request_id, "", 1, 1, 1, bytes(3))
        await admission.admit(entry, timeout_s=60, max_backlog=9, without_consumers=True)
    assert await delete_oldest_request(client, partition) == partition.request("a" * 32)
    assert not await client.exists(partition.request("a" * 32))
    assert await client.exists(partition.request("b" * 32))
    assert await client.xlen(partition.entries) == 2


@pytest.mark.parametrize(
    ("stored", "changed"),
    [(DONE, []), (Failed("a", "expired", "why"), ["a"]), (None, []), (Failed("a", "damaged", "why"), [])],
)
def test_an_outcome_that_is_gone_is_no_second_one(stored: Done | Failed | None, changed: list[str]) -> None:
    """Another outcome than that of the reply is."""
    audit = Audit(outcomes={} if stored is None else {"a": stored}, replies={"a": [DONE]})
    assert audit.changed() == changed
