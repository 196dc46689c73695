"""The outcome of one image, done or failed, and how it is stored.

One line of JSON, then the numbers in binary:

    {"kind": "done", "id": ..., "version": ..., "provider": ..., "classes": n, "batch": ...,
     "queue_ms": ..., "run_ms": ..., "digest": ..., "crc": ...}\\n
    n x uint32 little-endian     class indices
    n x float32 little-endian    their probabilities, or the values of a model that gives values

    `"output": ...` follows the digest if the output kind is not "classes".

    {"kind": "failed", "id": ..., "reason": ..., "detail": ..., "crc": ...}\\n

`crc` is the CRC-32 (zlib's) of everything else: of what comes before it in the line, and of the numbers. Outcomes of
older versions have none.
"""

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from stream.keys import valid_digest, valid_version
from stream.model import OutputKind

Reason = Literal["malformed", "other_preparation", "inference_failed", "expired", "cancelled", "dead_letter", "damaged"]

_BEGINNING: Final = b'{"kind": "'
_CRC: Final = b', "crc": '

_REASONS: Final = frozenset(get_args(Reason))
_OUTPUT_KINDS: Final[dict[object, OutputKind]] = {kind: kind for kind in get_args(OutputKind)}

#: Numbers from here on make no sense in an outcome. Python reads whole numbers of any size, NaN and infinity.
_MOST: Final = 1 << 53

#: What is wrong with an image that was accepted, and that Redis no longer has.
VANISHED: Final = "The image was accepted, but Redis has lost it. Send it again."

#: What is wrong with an image that was not classified before its deadline.
UNANSWERED: Final = "No consumer answered in time."


class DamagedOutcome(ValueError):
    """An outcome that has changed since a consumer wrote it."""


@dataclass(frozen=True, slots=True)
class Done:
    """What the model said. `indices` and `probabilities` belong together, most probable first; all, in class order,
    where all were asked for.

    `provider` is ONNX Runtime's name of what ran it, `batch` the number of images that ran together, 0 where the
    answer is that of an earlier request; `queue_ms` runs from acceptance to the start of that run (milliseconds by
    Redis's clock), `run_ms` is the run itself. `digest` is the SHA-256 of the model's file in hexadecimal, empty from
    a consumer that is too old to say so.

    `output_kind` says what the numbers mean. For `classes` and `binary` they add up to 1 over all classes. For `labels`
    each is a probability of its own. For `values` they are all outputs of the model, in its order.
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
    output_kind: OutputKind = "classes"

    @property
    def cached(self) -> bool:
        """Whether the prediction comes from the cache."""
        return self.batch == 0


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no prediction; `detail` is a sentence for people."""

    id: str
    reason: Reason
    detail: str


Outcome = Done | Failed

_text = json.encoder.encode_basestring_ascii


def is_lost_in_redis(outcome: object) -> bool:
    """Whether Redis has lost or damaged the image or its outcome, so that only its sender can help."""
    return isinstance(outcome, Failed) and (outcome.reason == "damaged" or outcome.detail == VANISHED)


def encode(outcome: Outcome) -> bytes:
    match outcome:
        case Done():
            count = len(outcome.indices)
            output = "" if outcome.output_kind == "classes" else f', "output": "{outcome.output_kind}"'
            # Written out: json.dumps takes three times as long, for each image.
            line = (
                f'{{"kind": "done", "id": {_text(outcome.id)}, "version": {_text(outcome.version)}, '
                f'"provider": {_text(outcome.provider)}, "classes": {count}, "batch": {outcome.batch}, '
                f'"queue_ms": {round(outcome.queue_ms, 3)}, "run_ms": {round(outcome.run_ms, 3)}, '
                f'"digest": {_text(outcome.digest)}{output}'
            ).encode()
            return _with_crc(line, struct.pack(f"<{count}I{count}f", *outcome.indices, *outcome.probabilities))
        case Failed():
            header = {"kind": "failed", "id": outcome.id, "reason": outcome.reason, "detail": outcome.detail}
            return _with_crc(json.dumps(header).encode()[:-1], b"")


def _with_crc(unclosed: bytes, numbers: bytes) -> bytes:
    return b"%s%s%d}\n%s" % (unclosed, _CRC, zlib.crc32(numbers, zlib.crc32(unclosed)), numbers)


def _check_crc(raw: bytes) -> None:
    unclosed, crc, rest = raw.partition(_CRC)
    number, _, numbers = rest.partition(b"}\n")
    if crc and number != b"%d" % zlib.crc32(numbers, zlib.crc32(unclosed)):
        raise DamagedOutcome("its checksum does not fit")


def decode(raw: bytes) -> Outcome:
    """Read what `encode` wrote; raises ValueError for anything else, and DamagedOutcome for what has changed since."""
    _check_crc(raw)
    line, _, numbers = raw.partition(b"\n")
    header = _header(line)
    try:
        match header["kind"]:
            case "done":
                return _decode_done(header, numbers)
            case "failed":
                if header["reason"] not in _REASONS:
                    raise ValueError(f"unknown reason {header['reason']!r}")
                return Failed(id=_text_of(header, "id"), reason=header["reason"], detail=_text_of(header, "detail"))
            case kind:
                raise ValueError(f"unknown kind {kind!r}")
    except (KeyError, TypeError, struct.error) as error:
        raise ValueError(f"not an outcome: {error}") from error


def _header(line: bytes) -> dict[str, Any]:
    """The line of JSON. If only the name of the CRC is damaged, the CRC was not checked, but the line is no JSON."""
    try:
        header: dict[str, Any] = json.loads(line)
    except RecursionError as error:
        raise ValueError(f"not an outcome: {error}") from error
    except ValueError as error:
        if line.startswith(_BEGINNING):
            raise DamagedOutcome(f"its line is not JSON: {error}") from error
        raise
    return header


def _decode_done(header: Mapping[str, Any], numbers: bytes) -> Done:
    count, batch, version = header["classes"], header["batch"], header["version"]
    if type(count) is not int or len(numbers) != 8 * count or type(batch) is not int or not 0 <= batch < _MOST:
        raise ValueError("an outcome whose counts do not fit")
    if not valid_version(version):
        raise ValueError("an outcome of no version")
    provider, digest = _text_of(header, "provider"), header.get("digest", "")
    if not (provider.isascii() and provider.isprintable() and valid_digest(digest)):
        raise ValueError("an outcome whose provider or digest is no word")
    output = header.get("output", "classes")
    if output not in _OUTPUT_KINDS:
        raise ValueError(f"unknown output kind {output!r}")
    values = struct.unpack(f"<{count}I{count}f", numbers)
    if not math.isfinite(sum(values[count:])):
        raise ValueError("an outcome with a probability that is no number")
    return Done(
        id=_text_of(header, "id"),
        version=version,
        provider=provider,
        indices=values[:count],
        probabilities=values[count:],
        batch=batch,
        queue_ms=_duration_of(header, "queue_ms"),
        run_ms=_duration_of(header, "run_ms"),
        digest=digest,
        output_kind=_OUTPUT_KINDS[output],
    )


def _text_of(header: Mapping[str, Any], name: str) -> str:
    if isinstance(value := header[name], str):
        value.encode()  # Nothing can send half of a surrogate pair. UnicodeEncodeError is a ValueError.
        return value
    raise ValueError(f"{name} of an outcome is no text")


def _duration_of(header: Mapping[str, Any], name: str) -> float:
    value = header[name]
    if type(value) not in {int, float} or not abs(value) < _MOST:
        raise ValueError(f"{name} of an outcome is no number, or not a finite one")
    return float(value)
