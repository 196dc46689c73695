"""An image of one partition at one moment: all that the server holds of it, read in one transaction."""

from dataclasses import dataclass, field

from redis.asyncio import Redis

from stream.keys import GROUP, Partition

LEASE_S = 86_400.0

#: Whose reply streams are looked at; the empty name is nobody's.
INGESTS = ("", "left", "right")


@dataclass(frozen=True)
class Held:
    """One line of the pending entries list."""

    consumer: str
    idle_ms: int
    deliveries: int


@dataclass(frozen=True)
class Image:
    """All that the server holds: entry -> request, pending entries, request -> where it stands, replies."""

    entries: dict[str, str] = field(default_factory=dict)
    pending: dict[str, Held] = field(default_factory=dict)
    states: dict[str, bytes] = field(default_factory=dict)
    replies: dict[str, list[bytes]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    dead: int = 0

    def outcomes(self) -> dict[str, bytes]:
        return {one: value for one, value in self.states.items() if not value.startswith((b"queued", b"cancelled"))}

    def lapsed(self) -> set[str]:
        return {entry for entry, held in self.pending.items() if held.idle_ms >= LEASE_S * 1000}

    def of(self, consumer: str) -> list[str]:
        return [entry for entry, held in self.pending.items() if held.consumer == consumer]


async def take_image(redis: Redis, partition: Partition, requests: list[str]) -> Image:
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xrange(partition.entries)
        pipe.xpending_range(partition.entries, GROUP, "-", "+", 10_000)
        pipe.mget([partition.request(one) for one in requests] or ["none"])
        for ingest in INGESTS:
            pipe.xrange(partition.replies(ingest))
        pipe.hgetall(partition.counters)
        pipe.xlen(partition.dead_letters)
        entries, pending, states, *replied, counters, dead = await pipe.execute()
    return Image(
        {entry.decode(): fields[b"id"].decode() for entry, fields in entries},
        {
            one["message_id"].decode(): Held(
                one["consumer"].decode(), one["time_since_delivered"], one["times_delivered"]
            )
            for one in pending
        },
        {request: state for request, state in zip(requests, states, strict=False) if state is not None},
        {
            ingest: [outcome for _, fields in replies for outcome in fields.values()]
            for ingest, replies in zip(INGESTS, replied, strict=True)
        },
        {name.decode(): int(value) for name, value in counters.items()},
        dead,
    )
