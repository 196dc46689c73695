"""Sends an image to Sluice and prints its labels, most probable first, or its values: `simple_request.py cat.jpg`.

Copy it into your own code: it needs the package requests, and nothing from Sluice.
"""

import argparse
import os
import sys
from pathlib import Path

import requests

#: If the service asks for API keys, this variable has yours.
KEY = os.environ.get("SLUICE_API_KEY", "")

#: Longer than the deadline of the service (30 s by default), so that the service answers first.
TIMEOUT_S = 60


def main() -> int:
    parser = argparse.ArgumentParser(description="Classify one image.")
    parser.add_argument("image", type=Path, help="JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF")
    parser.add_argument("--url", default="http://127.0.0.1:5000", help="where Sluice is (default: %(default)s)")
    parser.add_argument("--top", type=int, metavar="K", help="how many labels (default: 5, or all if there are fewer)")
    given = parser.parse_args()
    try:
        labels = classify(given.image, url=given.url, top=given.top)
    except OSError as error:  # the file's errors, and those of requests
        print(f"simple_request.py: {error}", file=sys.stderr)
        return 1
    for rank, (label, probability) in enumerate(labels, start=1):
        print(f"{rank}. {label}: {probability:.4f}")
    return 0


def classify(image: Path, *, url: str, top: int | None) -> list[tuple[str, float]]:
    """Labels with their probabilities, most probable first; numbered values if the model gives values.

    Raises OSError, and RefusedError with the reason.
    """
    with image.open("rb") as file:
        # requests leaves out a parameter that is None; then the service decides.
        response = requests.post(
            f"{url}/predict",
            params={"top": top},
            files={"image": file},
            headers={"Authorization": f"Bearer {KEY}"} if KEY else {},
            timeout=TIMEOUT_S,
        )
    try:
        body = response.json()
    except ValueError as error:
        raise RefusedError(f"{url} returned {response.status_code} without a response of Sluice") from error
    if not body.get("success"):
        raise RefusedError(f"{response.status_code} {body.get('title')}: {body.get('detail')}")
    if "values" in body:  # a regression or an embedding
        return [(f"value {number}", value) for number, value in enumerate(body["values"])]
    return [(prediction["label"], prediction["probability"]) for prediction in body["predictions"]]


class RefusedError(OSError):
    """The service did not classify the image; the message says why."""


if __name__ == "__main__":
    sys.exit(main())
