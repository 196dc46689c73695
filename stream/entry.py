"""The stream entry: one image on its way to a consumer.

    field      value
    ---------  ---------------------------------------------------------------
    v          b"1", the version of this layout
    id         the request's id, see stream/keys.py; with API keys behind
               the name of the key and a dot
    reply      name of the ingest process that waits; empty: none does
    top        how many classes are wanted, decimal; 0: all
    h, w       height and width in pixels, decimal
    c          channels, decimal; only if they are not 3
    due        deadline, Unix milliseconds by Redis's clock, decimal; 0: none.
               Appended by admit.lua, because only Redis knows that clock.
    more       only if more images of this ingest follow: milliseconds until it
               has decoded those that it holds, decimal. A hint
    webhook    only if the outcome is to be delivered: where, see
               results/webhook.py. Consumers pass it on
    prep       how the image was prepared, see `ModelDescription.preparation`:
               only consumers of such versions run it; missing: any that takes
               this size
    sum        checksum of v, id, top, h, w, c, px and fr, decimal; missing in
               entries of older versions

    Only in dead letters, and for consumers of older versions:
    px         the pixels: raw uint8 [h, w, c] in C order, h * w * c bytes
    fr         only if the model takes fractions: one byte for each of px. The
               pixel is px + fr / 256 - 1/2, so px alone is the rounded pixel

    Only if the request is traced:
    traceparent  the span of the HTTP request (W3C Trace Context, version 00)
    sent         when ingest sent the entry, Unix nanoseconds by ingest's
                 clock, decimal: the stages that follow are placed from here

Otherwise px, followed by fr, is the value of a key of its own, see stream/keys.py. The server takes such a value as it
is, but would copy a field of an entry into the script, out of it and into the stream.

Readers ignore fields that they do not know, so that a newer ingest may add some.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

LAYOUT = b"1"

#: The names of all fields.
FIELDS: Final = frozenset({
    "v", "id", "reply", "top", "h", "w", "c", "due", "more", "webhook", "prep", "sum", "px", "fr",
    "traceparent", "sent",
})  # fmt: skip

_RGB: Final = 3
_THREE: Final = b"3"

_CHANNELS: Final = frozenset((1, 3, 4))

#: What cancelling a request leaves of its pixels.
CANCELLED: Final = b"cancelled"

#: Sizes of one side and numbers of classes beyond which an entry is not ours.
_LARGEST: Final = 1 << 24

#: The checksum adds the pixels up, as rows of so many 64-bit words, column by column, and takes the CRC-32 of the sums:
#: 5 us for 150 kB instead of 21 for CRC-32 over all (zlib 1.2.13). A flipped bit, and any damage within one row, always
#: changes the sums. A row is no multiple of a power of two, so blocks of a disk that changed places are noticed, too.
_WORD: Final = np.dtype("<u8")
_WORDS_PER_ROW: Final = 97

_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,200}")
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_WEBHOOK: Final = re.compile(rb"[ -~]{1,8000}")
_PREPARATION: Final = re.compile(rb"[0-9a-f]{16}")
_TRACEPARENT: Final = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class MalformedEntry(ValueError):
    """An entry that no ingest of this version can have written."""


class DamagedEntry(MalformedEntry):
    """An entry that has changed, or lost its pixels, since ingest wrote it.

    `id`, `reply`, `due_ms` and `webhook` are those of the entry, or empty if they make no sense. They may be damaged,
    too. `has_pixels` is whether the entry still has any, `is_cancelled` whether they went because its request was
    cancelled.
    """

    def __init__(self, fields: Mapping[bytes, bytes], pixels: bytes | memoryview) -> None:
        why = "its checksum does not fit" if pixels else "its pixels are gone"
        super().__init__(f"the entry was damaged in Redis: {why}")
        self.has_pixels = bool(pixels)
        self.is_cancelled = pixels == CANCELLED
        due = fields.get(b"due", b"")
        self.due_ms = int(due) if _NUMBER.fullmatch(due) else 0
        self.id = _name_or_empty(fields, b"id")
        self.reply = _name_or_empty(fields, b"reply")
        webhook = fields.get(b"webhook", b"")
        self.webhook = webhook.decode("ascii") if _WEBHOOK.fullmatch(webhook) else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image with what a consumer needs to answer for it.

    `pixels` are raw uint8 [height, width, channels], and `fractions` are as many bytes or none. `due_ms` is a Unix time
    by Redis's clock, 0 for none. Its ingest needs `more_ms` to decode the images that it holds.
    `traceparent` is empty and `sent_ns` 0 if the request is not traced. `webhook` is empty if nothing is delivered.
    `preparation` is that of the version that the image was prepared for, or empty if that is not known.
    """

    id: str
    reply: str
    top: int
    height: int
    width: int
    pixels: bytes | memoryview
    due_ms: int = 0
    more_ms: int = 0
    traceparent: str = ""
    sent_ns: int = 0
    channels: int = _RGB
    fractions: bytes | memoryview = b""
    webhook: str = ""
    preparation: str = ""

    def __post_init__(self) -> None:
        if len(self.pixels) != self.height * self.width * self.channels:
            raise MalformedEntry(
                f"{len(self.pixels)} bytes are not {self.height} x {self.width} x {self.channels} pixels"
            )
        if len(self.fractions) not in {0, len(self.pixels)}:
            raise MalformedEntry(f"{len(self.fractions)} fractions do not fit {len(self.pixels)} pixels")

    @property
    def pixel_value(self) -> bytes | memoryview:
        """The pixels and their fractions as one value."""
        return b"".join((self.pixels, self.fractions)) if self.fractions else self.pixels

    def fields(self, *, inline: bool = False) -> list[bytes | memoryview | str | int]:
        """The entry as XADD wants it, without `due`, and without the pixels unless they are to be `inline`."""
        more: list[str | int] = ["more", self.more_ms] if self.more_ms else []
        traced: list[str | int] = ["traceparent", self.traceparent, "sent", self.sent_ns] if self.traceparent else []
        channels: list[str | int] = ["c", self.channels] if self.channels != _RGB else []
        webhook: list[str | int] = ["webhook", self.webhook] if self.webhook else []
        prepared: list[str | int] = ["prep", self.preparation] if self.preparation else []
        pixels: list[bytes | memoryview | str] = ["px", self.pixels] if inline else []
        pixels += ["fr", self.fractions] if inline and self.fractions else []
        about = f"1 {self.id} {self.top} {self.height} {self.width} {self.channels}"
        return ["v", LAYOUT, "id", self.id, "reply", self.reply, "top", self.top,
                "h", self.height, "w", self.width, *channels, *pixels, *more, *webhook, *prepared,
                "sum", checksum(about.encode(), self.pixels, self.fractions), *traced]  # fmt: skip

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes], value: bytes | memoryview | None = None) -> Self:
        """Read an entry's fields, and its pixels and fractions from `value` if they are not among the fields.

        Raises MalformedEntry, which names what is wrong, and DamagedEntry if the checksum does not fit or the pixels
        are gone.
        """
        pixels, fractions = _halves(fields, value)
        if b"sum" in fields and fields[b"sum"] != _checksum(fields, pixels, fractions):
            raise DamagedEntry(fields, pixels)
        try:
            if fields[b"v"] != LAYOUT:
                raise MalformedEntry(f"layout {fields[b'v'][:20]!r}, this consumer reads {LAYOUT!r}")
            return cls(
                id=_name(fields, b"id"),
                reply=_name(fields, b"reply") if fields[b"reply"] else "",
                top=_number(fields, b"top", largest=_LARGEST),
                height=_number(fields, b"h", largest=_LARGEST),
                width=_number(fields, b"w", largest=_LARGEST),
                pixels=pixels or fields[b"px"],
                due_ms=_number(fields, b"due"),
                more_ms=_number(fields, b"more") if b"more" in fields else 0,
                traceparent=_text(fields, b"traceparent", _TRACEPARENT, "trace context"),
                sent_ns=_number(fields, b"sent") if b"sent" in fields else 0,
                channels=_channels(fields) if b"c" in fields else _RGB,
                fractions=fractions,
                webhook=_text(fields, b"webhook", _WEBHOOK, "line of text"),
                preparation=_text(fields, b"prep", _PREPARATION, "preparation"),
            )
        except KeyError as error:
            raise MalformedEntry(f"field {error.args[0]!r} is missing") from error


def _halves(
    fields: Mapping[bytes, bytes], value: bytes | memoryview | None
) -> tuple[bytes | memoryview, bytes | memoryview]:
    """The pixels and their fractions."""
    if value is None:
        return fields.get(b"px", b""), fields.get(b"fr", b"")
    half = len(value) // 2
    if len(value) != 2 * _size(fields):
        return value, fields.get(b"fr", b"")
    return memoryview(value)[:half], memoryview(value)[half:]


def _size(fields: Mapping[bytes, bytes]) -> int:
    """Bytes of the pixels, as far as the fields make sense."""
    try:
        return int(fields[b"h"]) * int(fields[b"w"]) * int(fields.get(b"c", _RGB))
    except (KeyError, ValueError):
        return 0


def _checksum(fields: Mapping[bytes, bytes], pixels: bytes | memoryview, fractions: bytes | memoryview) -> bytes:
    """What the field `sum` must be for these fields."""
    get = fields.get
    values = (get(b"v", b""), get(b"id", b""), get(b"top", b""), get(b"h", b""), get(b"w", b""), get(b"c", _THREE))
    return b"%d" % checksum(b" ".join(values), pixels, fractions)


def checksum(about: bytes, pixels: bytes | memoryview, fractions: bytes | memoryview = b"") -> int:
    """32 bits over `about`, the pixels and their fractions, the same on every machine.

    Redis's append-only file has none, so a bit that flips on the disk or in memory would go unnoticed.
    """
    found = _added(zlib.crc32(about), pixels)
    return _added(found, fractions) if fractions else found


def _added(found: int, pixels: bytes | memoryview) -> int:
    rows = len(pixels) // (_WORDS_PER_ROW * _WORD.itemsize)
    if rows:
        words = np.frombuffer(pixels, _WORD, rows * _WORDS_PER_ROW).reshape(rows, _WORDS_PER_ROW)
        found = zlib.crc32(words.sum(axis=0, dtype=np.uint64).astype(_WORD, copy=False), found)
    return zlib.crc32(memoryview(pixels)[rows * _WORDS_PER_ROW * _WORD.itemsize :], found)


def _name_or_empty(fields: Mapping[bytes, bytes], name: bytes) -> str:
    value = fields.get(name, b"")
    return value.decode("ascii") if _NAME.fullmatch(value) else ""


def _name(fields: Mapping[bytes, bytes], name: bytes) -> str:
    value = fields[name]
    if _NAME.fullmatch(value) is None:
        raise MalformedEntry(f"field {name!r} is no name: {value[:40]!r}")
    return value.decode("ascii")


def _number(fields: Mapping[bytes, bytes], name: bytes, *, largest: int = 1 << 63) -> int:
    value = fields[name]
    if _NUMBER.fullmatch(value) is None or (number := int(value)) > largest:
        raise MalformedEntry(f"field {name!r} is no number up to {largest}: {value[:40]!r}")
    return number


def _channels(fields: Mapping[bytes, bytes]) -> int:
    channels = _number(fields, b"c")
    if channels not in _CHANNELS:
        raise MalformedEntry(f"an image cannot have {channels} channels")
    return channels


def _text(fields: Mapping[bytes, bytes], name: bytes, pattern: re.Pattern[bytes], what: str) -> str:
    """A field that may be missing."""
    value = fields.get(name, b"")
    if value and pattern.fullmatch(value) is None:
        raise MalformedEntry(f"field {name!r} is no {what}: {value[:60]!r}")
    return value.decode("ascii")
