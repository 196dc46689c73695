"""The stream entry: one image on its way to a consumer. Pure codec, knows no Redis.

    field      value
    ---------  ---------------------------------------------------------------
    v          b"1", the version of this layout
    id         the request's id: 32 hexadecimal digits (UUID 4), with API keys
               behind the name of the key and a dot
    reply      name of the ingest process that waits; empty: nobody does
    top        how many classes are wanted, decimal; 0: all probabilities
    h, w       height and width in pixels, decimal
    c          channels, decimal, only if they are not 3: 1 is greyscale, 4 RGBA
    px         raw uint8 [h, w, c], C order: h * w * c bytes
    due        deadline, Unix milliseconds by Redis's clock, decimal; 0: none.
               Appended by admit.lua, the only one who knows that clock.
    more       only where more pictures were on their way: milliseconds until
               ingest will have decoded those that it has, decimal. A hint

    Only where the request is traced:
    traceparent  the span of the HTTP request (W3C Trace Context, version 00)
    sent         when ingest sent the entry, Unix nanoseconds by ingest's
                 clock, decimal: the stages that follow are placed from here

Fields that a reader does not know are ignored, so that a newer ingest may add some.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

LAYOUT = b"1"


class MalformedEntry(ValueError):
    """An entry that no ingest of this version can have written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image with what a consumer needs to answer for it.

    `pixels` are raw uint8 [height, width, channels]; `due_ms` is a Unix time by Redis's clock, 0 for none; its ingest
    still decodes, for `more_ms`, pictures that it has already.
    `traceparent` is empty and `sent_ns` 0 where the request is not traced.
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
    channels: int = 3

    def __post_init__(self) -> None:
        if len(self.pixels) != self.height * self.width * self.channels:
            shape = f"{self.height} x {self.width} x {self.channels}"
            raise MalformedEntry(f"{len(self.pixels)} bytes are not {shape} pixels")

    def fields(self) -> list[bytes | memoryview | str | int]:
        """The entry as XADD wants it, without `due`."""
        more: list[str | int] = ["more", self.more_ms] if self.more_ms else []
        traced: list[str | int] = ["traceparent", self.traceparent, "sent", self.sent_ns] if self.traceparent else []
        channels: list[str | int] = ["c", self.channels] if self.channels != 3 else []
        return ["v", LAYOUT, "id", self.id, "reply", self.reply, "top", self.top,
                "h", self.height, "w", self.width, *channels, "px", self.pixels, *more, *traced]  # fmt: skip

    @classmethod
    def decode(cls, fields: Mapping[bytes, bytes], pixels: memoryview | None = None) -> Self:
        """Read an entry's fields, and its pixels from `pixels` where they were taken out of them.

        Raises MalformedEntry and names what was wrong.
        """
        try:
            if fields[b"v"] != LAYOUT:
                raise MalformedEntry(f"layout {fields[b'v'][:20]!r}, this consumer reads {LAYOUT!r}")
            return cls(
                id=fields[b"id"].decode("ascii"),
                reply=fields[b"reply"].decode("ascii"),
                top=int(fields[b"top"]),
                height=int(fields[b"h"]),
                width=int(fields[b"w"]),
                pixels=fields[b"px"] if pixels is None else pixels,
                due_ms=int(fields[b"due"]),
                more_ms=int(fields.get(b"more", 0)),
                traceparent=fields.get(b"traceparent", b"").decode("ascii"),
                sent_ns=int(fields.get(b"sent", 0)),
                channels=int(fields.get(b"c", 3)),
            )
        except KeyError as error:
            raise MalformedEntry(f"field {error.args[0]!r} is missing") from error
        except MalformedEntry:
            raise
        except ValueError as error:
            raise MalformedEntry(str(error)) from error
