"""Every Redis key of Sluice.

| key | type | holds | lives |
| --- | --- | --- | --- |
| `sluice:{all}:models` | sorted set | announced models -> how many partitions each has or had | permanent |
| `sluice:{all}:releases` | hash | model -> its release (JSON), see stream/releases.py | permanent, bounded |
| `sluice:{all}:release:<model>:<id>` | hash | what was counted since a release began | expires |
| `sluice:{all}:loads` | hash | model -> newest request to load it, or to unload it | permanent, bounded |
| `sluice:{all}:rate:<who>` | string | when a client's bucket of requests is empty again (Unix µs) | expires |
| `sluice:{all}:requests` | hash | ingest process -> its responses of the last minute (JSON) | expires |
| `sluice:{all}:gpu:<gpu>:<number>` | string | the consumer that holds this lease of a GPU | expires |
| `sluice:{m/n}:entries` | stream | accepted, not completed, interactive images; its group is `consumers` | permanent |
| `sluice:{m/n}:entries:bulk` | stream | the same for bulk images | permanent |
| `sluice:{m/n}:entries:v<version>` | stream | the same for images that one version must classify | permanent |
| `sluice:{m/n}:entries:bulk:v<version>` | stream | the same for bulk images | permanent |
| `sluice:{m/n}:wanted_versions` | set | versions whose streams were ever written to | permanent, bounded |
| `sluice:{m/n}:pixels:<id>` | string | the pixels of an accepted image, and their fractions | completed, or expires |
| `sluice:{m/n}:request:<id>` | string | `queued` or `cancelled`, deadline, entry, subscribers; or outcome | expires |
| `sluice:{m/n}:idempotency:<digest>` | string | request id and image of a client's key | expires |
| `sluice:{m/n}:cache:<digest>` | string | a prediction, under the digest of model and pixels | expires |
| `sluice:{m/n}:replies:<ingest>` | stream | outcomes for one ingest process, those of a batch in one entry | expires |
| `sluice:{m/n}:dead_letters` | stream | entries that Sluice gave up, with the reason | permanent, bounded |
| `sluice:{m/n}:webhooks` | stream | outcomes that wait for their delivery; its group is `senders` | permanent |
| `sluice:{m/n}:dead_webhooks` | stream | outcomes that could not be delivered, with the reason | permanent, bounded |
| `sluice:{m/n}:holders` | hash | reclaimed entry -> consumers that lost it | permanent, bounded |
| `sluice:{m/n}:alive` | sorted set | consumer -> until when its heartbeat is valid (Unix ms) | permanent, bounded |
| `sluice:{m/n}:consumers` | hash | consumer -> its last report (JSON) | permanent, bounded |
| `sluice:{m/n}:versions` | hash | version -> model description (JSON) | permanent, bounded |
| `sluice:{m/n}:counters` | hash | event -> how often it happened, over all processes | permanent, bounded |

All keys of one partition share the hash tag `{m/n}` (m is the model's name, n the partition's number), so that
a script may use them together on a Cluster. Keys that belong to no partition share the tag `{all}`.

Every stream counts its own ids. So an entry is named by the id behind the prefix of its stream: `17-0` in `entries`,
`bulk:17-0`, `v2:17-0` or `bulk:v2:17-0` in the others. `holders`, requests and dead letters hold these names.
"""

import re
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

#: How every key begins.
PREFIX: Final = "sluice:"

MODELS = f"{PREFIX}{{all}}:models"
REQUESTS = f"{PREFIX}{{all}}:requests"
RELEASES = f"{PREFIX}{{all}}:releases"
LOADS = f"{PREFIX}{{all}}:loads"
GROUP = "consumers"
SENDERS = "senders"

#: The class of an image. An image that a person waits for goes before one of many.
Priority = Literal["interactive", "bulk"]

#: All classes, the most urgent first.
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: Digits of a version; dates and times fit.
_MAX_VERSION_DIGITS = 18
_ENTRY_NAME = re.compile(rf"(?P<bulk>bulk:)?(v(?P<version>[0-9]{{1,{_MAX_VERSION_DIGITS}}}):)?[0-9]")


def rate(who: str) -> str:
    """The rate limit of one API key or one address."""
    return f"{PREFIX}{{all}}:rate:{who}"


def release_figures(model: str, release: str) -> str:
    """What was counted since a release began."""
    return f"{PREFIX}{{all}}:release:{model}:{release}"


def gpu_lease(gpu: str, slot: int | str) -> str:
    """One of the leases of a GPU, named by its UUID."""
    return f"{PREFIX}{{all}}:gpu:{gpu}:{slot}"


def split_name(entry: str) -> tuple[str, str]:
    """The prefix and the id of which the name of an entry consists."""
    prefix, colon, id_in_stream = entry.rpartition(":")
    return prefix + colon, id_in_stream


def added_ms(id_in_stream: str) -> int:
    """When Redis added an entry, Unix milliseconds by Redis's clock: the first half of the entry's id."""
    return int(id_in_stream.partition("-")[0])


def age_s(now_ms: int, id_in_stream: str) -> float:
    """Seconds since Redis added an entry."""
    return max(0.0, (now_ms - added_ms(id_in_stream)) / 1000)


def partition_key(model: str, number: int | str, rest: str) -> str:
    """A key of one partition; `*` as a number makes a pattern for all of them."""
    return f"{PREFIX}{{{model}/{number}}}:{rest}"


def valid_model_name(name: str) -> bool:
    """Whether a model's name fits in a key, a path and a URL."""
    return _MODEL_NAME.fullmatch(name) is not None


def valid_version(value: object) -> bool:
    """Whether this can be the version of a model: a whole number, as text, that fits in a key."""
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MAX_VERSION_DIGITS


def valid_digest(value: object) -> bool:
    """Whether this can be the digest of a model: at most 64 characters, as many as the hash of the cache takes."""
    return isinstance(value, str) and value.isascii() and len(value) <= 64


@dataclass(frozen=True, slots=True)
class EntryStream:
    """One stream of entries: of one class, for consumers of any version or (`version`) of one only.

    `prefix` precedes the ids of its entries in their names.
    """

    key: str
    prefix: str
    priority: Priority
    version: str = ""


@dataclass(frozen=True)
class Partition:
    """One part of the images of one model, and the names of all keys that belong to it. Each name is made once."""

    model: str
    number: int = 0

    def __post_init__(self) -> None:
        if not valid_model_name(self.model):
            raise ValueError(
                f"{self.model!r} is not a model name: letters, digits, '.', '_' and '-', "
                "starting with a letter or a digit, at most 100"
            )

    @cached_property
    def _prefix(self) -> str:
        return partition_key(self.model, self.number, "")

    @cached_property
    def entries(self) -> str:
        return self._prefix + "entries"

    def stream(self, priority: Priority = "interactive", version: str = "") -> EntryStream:
        """The stream of a class, for any version or for one only."""
        # The names of interactive entries are those from before there were classes, so that old processes read them.
        parts = [*(() if priority == "interactive" else (priority,)), *((f"v{version}",) if version else ())]
        key = ":".join((self.entries, *parts))
        return EntryStream(key, "".join(f"{part}:" for part in parts), priority, version)

    def streams(self, *versions: str, any_version: bool = True) -> tuple[EntryStream, ...]:
        """The streams that a consumer of these versions reads, the most urgent first; `any_version`: also those for
        any version.

        Within a class, those of its own version come first: nobody else reads them.
        """
        names = (*versions, "") if any_version else versions
        return tuple(self.stream(priority, version) for priority in PRIORITIES for version in names)

    def stream_of(self, entry: str) -> EntryStream:
        """The stream of an entry, by the entry's name. For what is no such name: `entries`."""
        named = _ENTRY_NAME.match(entry)
        return self.stream("bulk" if named and named["bulk"] else "interactive", (named and named["version"]) or "")

    @cached_property
    def wanted_versions(self) -> str:
        return self._prefix + "wanted_versions"

    @cached_property
    def dead_letters(self) -> str:
        return self._prefix + "dead_letters"

    @cached_property
    def webhooks(self) -> str:
        return self._prefix + "webhooks"

    @cached_property
    def dead_webhooks(self) -> str:
        return self._prefix + "dead_webhooks"

    @cached_property
    def holders(self) -> str:
        return self._prefix + "holders"

    @cached_property
    def alive(self) -> str:
        return self._prefix + "alive"

    @cached_property
    def consumers(self) -> str:
        return self._prefix + "consumers"

    @cached_property
    def versions(self) -> str:
        return self._prefix + "versions"

    @cached_property
    def counters(self) -> str:
        return self._prefix + "counters"

    def request(self, request_id: str) -> str:
        return f"{self._prefix}request:{request_id}"

    def pixels(self, request_id: str) -> str:
        return f"{self._prefix}pixels:{request_id}"

    def idempotency(self, digest: str) -> str:
        return f"{self._prefix}idempotency:{digest}"

    def cache(self, digest: str) -> str:
        return f"{self._prefix}cache:{digest}"

    def replies(self, ingest: str) -> str:
        return f"{self._prefix}replies:{ingest}"


#: Most partitions of a model. Each costs every consumer and every ingest a connection.
MAX_PARTITIONS: Final = 64

_REQUEST_PARTITION = re.compile(r"-([1-9]\d?)\Z")


#: Between the owner of a request and the rest of its id. No name of an API key contains it.
_OWNER_END: Final = "."


def new_id(partition: int = 0, owner: str = "") -> str:
    """A request id that cannot be guessed: 122 random bits (RFC 9562, 5.4), then the partition if it is not 0.

        3f2a...          32 hexadecimal digits: partition 0
        3f2a...-2        partition 2
        alice.3f2a...-2  the same, of the owner of the API key alice

    So any ingest finds the request, however many partitions there are by now, and the id says who may fetch its result.
    """
    random = uuid.uuid4().hex + (f"-{partition}" if partition else "")
    return f"{owner}{_OWNER_END}{random}" if owner else random


def owner_of(request_id: str) -> str:
    """The owner of the request with this id, empty if it has none."""
    return request_id.rpartition(_OWNER_END)[0]


def partition_of(request_id: str) -> int:
    """The number of the partition that a request with this id was sent to."""
    found = _REQUEST_PARTITION.search(request_id)
    return int(found[1]) if found else 0
