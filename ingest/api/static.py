"""The page's files: read once, sent compressed, and not at all to a browser that has them. Knows no data."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ingest.openapi.operation import Answer, Described, Operation

_FOLDER = Path(__file__).parent.parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

#: The page runs its own files only, asks its own origin only, and is shown in no frame. Thumbnails are `blob:`.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Asked for each time, and answered 304: a new version of Sluice is seen at once.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


PAGE = Operation("The page", {200: Answer("HTML.", media_type="text/html")})
DOCS = Operation("The API, to read and to try", {200: Answer("HTML.", media_type="text/html")})
FILE = Operation(
    "A file of the page",
    {
        200: Answer(
            "The file.", media_type="text/css", others={"text/javascript": {}, "image/svg+xml": {}, "text/html": {}}
        )
    },
)


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    plain: bytes
    packed: bytes
    etag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        plain = path.read_bytes()
        digest = hashlib.sha256(plain).hexdigest()[:16]
        return cls(_TYPES[path.suffix], plain, gzip.compress(plain, mtime=0), f'W/"{digest}"')

    def answer(self, request: Request) -> Response:
        headers = {**HEADERS, "ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(self.packed, media_type=self.kind, headers={**headers, "Content-Encoding": "gzip"})
        return Response(self.plain, media_type=self.kind, headers=headers)


class Page:
    """The endpoints. What is not a file of the page cannot be asked for."""

    def __init__(self) -> None:
        self._files = {path.name: _File.read(path) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}

    def routes(self) -> list[Described]:
        return [
            Described("/", self._index, PAGE),
            Described("/docs", self._docs, DOCS),
            Described("/page/{name}", self._file, FILE),
        ]

    async def _index(self, request: Request) -> Response:
        return self._files["index.html"].answer(request)

    async def _docs(self, request: Request) -> Response:
        return self._files["docs.html"].answer(request)

    async def _file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        if file is None:
            raise HTTPException(404)
        return file.answer(request)
