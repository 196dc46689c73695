"""The outcome of one image: done or failed. Pure codec, knows no Redis.

One line of JSON for what people read, then the numbers as they are:

    {"kind": "done", "id": ..., "version": ..., "provider": ..., "classes": n, "batch": ...,
     "queue_ms": ..., "run_ms": ..., "digest": ...}\\n
    n x uint32 little-endian     class indices
    n x float32 little-endian    their probabilities

    {"kind": "failed", "id": ..., "reason": ..., "detail": ...}\\n
"""

import json
import struct
from dataclasses import dataclass
from typing import Literal

Reason = Literal["malformed", "wrong_size", "inference_failed", "expired", "cancelled", "dead_letter"]


@dataclass(frozen=True, slots=True)
class Done:
    """What the model said. `indices` and `probabilities` belong together, most probable first; all, in class order,
    where all were asked for.

    `provider` is ONNX Runtime's name of what ran it, `batch` the number of images that ran together, 0 where the
    answer is that of an earlier request; `queue_ms` runs from acceptance to the start of that run (milliseconds by
    Redis's clock), `run_ms` is the run itself. `digest` is the SHA-256 of the model's file in hexadecimal, empty from
    a consumer that is too old to say so.
    """

    id: str
    version: str
    provider: str
    indices: tuple[int, ...]
    probabilities: tuple[float, ...]
    batch: int
    queue_ms: float
    run_ms: float
    digest: str = ""

    @property
    def cached(self) -> bool:
        """Whether nothing ran for this request."""
        return self.batch == 0


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer; `detail` is a sentence for people."""

    id: str
    reason: Reason
    detail: str


Outcome = Done | Failed

_text = json.encoder.encode_basestring_ascii


def encode(outcome: Outcome) -> bytes:
    match outcome:
        case Done():
            count = len(outcome.indices)
            # Written out: json.dumps takes three times as long, for each image.
            line = (
                f'{{"kind": "done", "id": {_text(outcome.id)}, "version": {_text(outcome.version)}, '
                f'"provider": {_text(outcome.provider)}, "classes": {count}, "batch": {outcome.batch}, '
                f'"queue_ms": {round(outcome.queue_ms, 3)}, "run_ms": {round(outcome.run_ms, 3)}, '
                f'"digest": {_text(outcome.digest)}}}\n'
            )
            return line.encode() + struct.pack(f"<{count}I{count}f", *outcome.indices, *outcome.probabilities)
        case Failed():
            header = {"kind": "failed", "id": outcome.id, "reason": outcome.reason, "detail": outcome.detail}
            return json.dumps(header).encode() + b"\n"


def decode(raw: bytes) -> Outcome:
    """Read back what `encode` wrote; raises ValueError where it is something else."""
    line, _, numbers = raw.partition(b"\n")
    try:
        header = json.loads(line)
        match header["kind"]:
            case "done":
                count = header["classes"]
                values = struct.unpack(f"<{count}I{count}f", numbers)
                return Done(
                    id=header["id"],
                    version=header["version"],
                    provider=header["provider"],
                    indices=values[:count],
                    probabilities=values[count:],
                    batch=header["batch"],
                    queue_ms=header["queue_ms"],
                    run_ms=header["run_ms"],
                    digest=header.get("digest", ""),
                )
            case "failed":
                return Failed(id=header["id"], reason=header["reason"], detail=header["detail"])
            case kind:
                raise ValueError(f"unknown kind {kind!r}")
    except (KeyError, TypeError, struct.error) as error:
        raise ValueError(f"not an outcome: {error}") from error
