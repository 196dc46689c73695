"""Send one photograph to Sluice and print its labels, the most probable first: `simple_request.py cat.jpg`.

Needs only the package requests, and nothing of Sluice itself: it is meant to be copied.
"""

import argparse
import sys
from pathlib import Path

import requests

#: Longer than the service's own deadline (30 s by default), so that its answer comes first.
TIMEOUT_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description="Classify one photograph.")
    parser.add_argument("image", type=Path, help="JPEG, PNG, WebP, GIF, BMP or TIFF")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="where Sluice is (default: %(default)s)")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many labels (default: %(default)s)")
    given = parser.parse_args()
    try:
        labels = classify(given.image, url=given.url, top=given.top)
    except OSError as error:  # the file's errors, and those of requests
        print(f"simple_request.py: {error}", file=sys.stderr)
        return 1
    for rank, (label, probability) in enumerate(labels, start=1):
        print(f"{rank}. {label}: {probability:.4f}")
    return 0


def classify(image: Path, *, url: str, top: int) -> list[tuple[str, float]]:
    """Labels with their probabilities, most probable first; raises OSError, and RefusedError with the reason."""
    with image.open("rb") as file:
        answer = requests.post(f"{url}/predict", params={"top": top}, files={"image": file}, timeout=TIMEOUT_S)
    try:
        body = answer.json()
    except ValueError as error:
        raise RefusedError(f"{url} answers {answer.status_code}, and not as Sluice does") from error
    if not body.get("success"):
        raise RefusedError(f"{answer.status_code} {body.get('title')}: {body.get('detail')}")
    return [(one["label"], one["probability"]) for one in body["predictions"]]


class RefusedError(OSError):
    """The service has not classified the photograph; the message says why."""


if __name__ == "__main__":
    sys.exit(main())
