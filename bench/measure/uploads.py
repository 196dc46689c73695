"""The request that carries an image: as a form, or as the bare body where a server takes no forms."""

from dataclasses import dataclass

_BOUNDARY = "sluice-bench-7d0f5a"


@dataclass(frozen=True, slots=True)
class Upload:
    """One POST, the same each time."""

    path: str
    content_type: str
    body: bytes

    def message(self, host: str) -> bytes:
        """The whole HTTP/1.1 request."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode() + self.body


def form(path: str, image: bytes, *, field: str = "image") -> Upload:
    """multipart/form-data with one file, as curl -F sends it."""
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + image + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Upload(path, f"multipart/form-data; boundary={_BOUNDARY}", body)


def bare(path: str, image: bytes) -> Upload:
    """The file itself as the body."""
    return Upload(path, "image/jpeg", image)
