"""Every Redis key of Sluice.

| key | type | holds | lives |
| --- | --- | --- | --- |
| `sluice:{all}:models` | sorted set | announced models -> how many partitions each has or had | permanent |
| `sluice:{all}:releases` | hash | model -> its release (JSON), see stream/releases.py | permanent, bounded |
| `sluice:{all}:loads` | hash | model -> newest request to load it, or to unload it | permanent, bounded |
| `sluice:{all}:rate:<who>` | string | when a client's bucket of requests is empty again (Unix µs) | expires |
| `sluice:{all}:requests` | hash | ingest process -> its responses of the last minute (JSON) | expires |
| `sluice:{all}:gpu:<gpu>:<number>` | string | the consumer that holds this lease of a GPU | expires |
| `sluice:{m/n}:entries` | stream | accepted and not completed images; its group is `consumers` | permanent |
| `sluice:{m/n}:request:<id>` | string | `queued` or `cancelled`, deadline, entry, subscribers; or outcome | expires |
| `sluice:{m/n}:idempotency:<digest>` | string | request id and image of a client's key | expires |
| `sluice:{m/n}:cache:<digest>` | string | a prediction, under the digest of model and pixels | expires |
| `sluice:{m/n}:replies:<ingest>` | stream | outcomes for one ingest process, those of a batch in one entry | expires |
| `sluice:{m/n}:dead_letters` | stream | entries that Sluice gave up, with the reason | permanent, bounded |
| `sluice:{m/n}:holders` | hash | reclaimed entry -> consumers that lost it | permanent, bounded |
| `sluice:{m/n}:alive` | sorted set | consumer -> until when its heartbeat is valid (Unix ms) | permanent, bounded |
| `sluice:{m/n}:consumers` | hash | consumer -> its last report (JSON) | permanent, bounded |
| `sluice:{m/n}:versions` | hash | version -> model description (JSON) | permanent, bounded |
| `sluice:{m/n}:counters` | hash | event -> how often it happened, over all processes | permanent, bounded |

All keys of one partition share the hash tag `{m/n}` (m is the model's name, n the partition's number), so that
a script may use them together on a Cluster. Keys that belong to no partition share the tag `{all}`.
"""

import re
from dataclasses import dataclass

MODELS = "sluice:{all}:models"
REQUESTS = "sluice:{all}:requests"
RELEASES = "sluice:{all}:releases"
LOADS = "sluice:{all}:loads"
GROUP = "consumers"

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def rate(who: str) -> str:
    """The rate limit of one API key or one address."""
    return f"sluice:{{all}}:rate:{who}"


def gpu_lease(gpu: str, slot: int | str) -> str:
    """One of the leases of a GPU, named by its UUID."""
    return f"sluice:{{all}}:gpu:{gpu}:{slot}"


def partition_key(model: str, number: int | str, rest: str) -> str:
    """A key of one partition; `*` as a number makes a pattern for all of them."""
    return f"sluice:{{{model}/{number}}}:{rest}"


def valid_model_name(name: str) -> bool:
    """Whether a model's name fits in a key, a path and a URL."""
    return _MODEL_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Partition:
    """One stream of one model, and the names of all keys that belong to it."""

    model: str
    number: int = 0

    def __post_init__(self) -> None:
        if not valid_model_name(self.model):
            raise ValueError(
                f"{self.model!r} is not a model name: letters, digits, '.', '_' and '-', "
                "starting with a letter or a digit, at most 100"
            )

    def _key(self, rest: str) -> str:
        return partition_key(self.model, self.number, rest)

    @property
    def entries(self) -> str:
        return self._key("entries")

    @property
    def dead_letters(self) -> str:
        return self._key("dead_letters")

    @property
    def holders(self) -> str:
        return self._key("holders")

    @property
    def alive(self) -> str:
        return self._key("alive")

    @property
    def consumers(self) -> str:
        return self._key("consumers")

    @property
    def versions(self) -> str:
        return self._key("versions")

    @property
    def counters(self) -> str:
        return self._key("counters")

    def request(self, request_id: str) -> str:
        return self._key(f"request:{request_id}")

    def idempotency(self, digest: str) -> str:
        return self._key(f"idempotency:{digest}")

    def cache(self, digest: str) -> str:
        return self._key(f"cache:{digest}")

    def replies(self, ingest: str) -> str:
        return self._key(f"replies:{ingest}")
