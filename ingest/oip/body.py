"""The body of an inference request, within the limits of an upload, unpacked where it was compressed."""

import zlib
from typing import Final

from starlette.requests import Request

from ingest.errors import BadParameter, NoImage, PayloadTooLarge, UnsupportedMediaType
from ingest.uploads import Limits, read_uploads

#: Both are told apart by their first bytes (zlib's manual, inflateInit2: 32 added to the window's size).
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


#: Content-Encoding of a request.
CODINGS: Final = frozenset({"identity", "gzip", "deflate"})


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body as it was sent, empty where there is none.

    Raises UnsupportedMediaType, PayloadTooLarge, RequestTimeout, and starlette's ClientDisconnect.
    """
    if request.headers.get("content-type", "")[:10].lower() == "multipart/":
        raise UnsupportedMediaType("The protocol has no forms. Send the request as JSON, with binary data behind it.")
    try:
        (upload,) = await read_uploads(request, limits)
    except NoImage:
        return b""
    return upload.data


def coding_of(request: Request) -> str:
    """How the body is compressed, empty where it is not; raises UnsupportedMediaType."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding and coding not in CODINGS:
        raise UnsupportedMediaType(f"Content-Encoding is {coding[:40]!r}; gzip and deflate are taken.")
    return "" if coding == "identity" else coding


def unpacked(body: bytes, limits: Limits) -> bytes:
    """What was compressed by gzip or zlib; raises BadParameter, PayloadTooLarge."""
    inflating = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        whole = inflating.decompress(body, limits.max_bytes)
    except zlib.error as error:
        raise BadParameter("The body is not compressed as Content-Encoding says.") from error
    if inflating.unconsumed_tail:
        raise PayloadTooLarge(f"The request has more than {limits.max_bytes} bytes. Send fewer images at once.")
    if not inflating.eof or inflating.unused_data:
        raise BadParameter("The compressed body breaks off, or something follows it.")
    return whole
