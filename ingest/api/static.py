"""`GET /`, `/docs` and `/page/...`: the files of the web page, compressed, with ETags.

Only browsers get the page at `/`. Programs get the sign of life that KServe's server has there, and its first protocol
has nowhere else.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from ingest.openapi.operation import DocumentedResponse, DocumentedRoute, Operation
from ingest.responses import JSONResponse

_FOLDER = Path(__file__).parent.parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}

#: The page may run only its own files, send requests only to its own origin, and appear in no frame. Thumbnails are
#: `blob:` URLs.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    # The browser asks each time and gets 304, so that it sees a new version of Sluice at once.
    "Cache-Control": "no-cache",
}

#: An entry of Accept that wants HTML. Those with q=0 do not (RFC 9110, 12.5.1).
_WANTS_HTML: Final = re.compile(r"\s*text/html\s*(;(?!\s*q=0(\.0*)?\s*(;|$)).*)?", re.IGNORECASE)


_HTML: Final = "text/html"


class Root(TypedDict):
    """The process answers. The paths are for browsers, but for `openapi`."""

    status: Literal["alive"]
    page: Literal["/"]
    docs: Literal["/docs"]
    openapi: Literal["/openapi.json"]


_ROOT: Final = Root(status="alive", page="/", docs="/docs", openapi="/openapi.json")

PAGE = Operation(
    "Open the page, or see that the process is alive",
    {200: DocumentedResponse("The page, if Accept names text/html; else JSON.", Root, others={_HTML: {}})},
)
DOCS = Operation("Open the API reference", {200: DocumentedResponse("HTML.", media_type="text/html")})
FILE = Operation(
    "Get a file of the page",
    {
        200: DocumentedResponse(
            "The file.",
            media_type="text/css",
            others={"text/javascript": {}, "image/svg+xml": {}, "image/jpeg": {}, "text/html": {}},
        )
    },
)


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    plain: bytes
    compressed: bytes
    etag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        plain = path.read_bytes()
        digest = hashlib.sha256(plain).hexdigest()[:16]
        return cls(_TYPES[path.suffix], plain, gzip.compress(plain, mtime=0), f'W/"{digest}"')

    def response(self, request: Request, *, vary: str = "Accept-Encoding") -> Response:
        headers = {**HEADERS, "Vary": vary, "ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.compressed, media_type=self.kind, headers={**headers, "Content-Encoding": "gzip"})
        return Response(self.plain, media_type=self.kind, headers=headers)


class PageEndpoints:
    """The endpoints. They serve the files of the page and no other file.

    A file's address is its name, whichever folder it is in.
    """

    def __init__(self) -> None:
        self._files = {path.name: _File.read(path) for path in sorted(_FOLDER.rglob("*")) if path.suffix in _TYPES}

    def routes(self) -> list[DocumentedRoute]:
        return [
            DocumentedRoute("/", self._index, PAGE),
            DocumentedRoute("/docs", self._docs, DOCS),
            DocumentedRoute("/page/{name}", self._file, FILE),
        ]

    async def _index(self, request: Request) -> Response:
        if _wants_html(request.headers.getlist("accept")):
            return self._files["index.html"].response(request, vary="Accept, Accept-Encoding")
        return JSONResponse(_ROOT, headers={"Vary": "Accept"})

    async def _docs(self, request: Request) -> Response:
        return self._files["docs.html"].response(request)

    async def _file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return file.response(request)


def _wants_html(accept: list[str]) -> bool:
    """Whether these values of Accept name HTML, as those of browsers do. Those of programs have `*/*` at most."""
    return any(_WANTS_HTML.fullmatch(one) for one in ",".join(accept).split(","))
