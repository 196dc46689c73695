"""The body of a request to `/predict`: uploads, or JSON with images as base64 or by URL."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request

from ingest.api.predict_request import THRESHOLD, THRESHOLD_SCHEMA, TOP, Options
from ingest.api.webhook_request import WEBHOOK, WEBHOOK_SCHEMA
from ingest.concurrency import cancel_on_disconnect
from ingest.errors import BadParameter, NoImage, PayloadTooLarge
from ingest.images.formats import MEDIA_TYPES
from ingest.openapi.operation import JSON, Body
from ingest.outbound.limits import MAX_URL
from ingest.request_body import Limits, parse_json_object, read_body
from ingest.uploads import IMAGE, Upload, decode_base64, media_type, read_uploads

if TYPE_CHECKING:
    from ingest.api.image_urls import ImageUrls  # It imports httpx, which need not be installed.

_IMAGES: Final = "images"
_IMAGE_URL: Final = "image_url"

#: Exactly one of them is in the JSON.
_SOURCES: Final = (IMAGE, _IMAGES, _IMAGE_URL)
_FIELDS: Final = (*_SOURCES, TOP, THRESHOLD, WEBHOOK)


class PredictBody:
    """Reads the images of a request. Without `urls`, those by URL are refused. `webhooks`: whether they are on."""

    def __init__(self, limits: Limits, urls: "ImageUrls | None" = None, *, webhooks: bool = False) -> None:
        self._limits = limits
        self._webhooks = webhooks
        self._urls = urls

    async def read(self, request: Request) -> tuple[list[Upload], Options, str | None]:
        """The images of the body, and if it is JSON the options and the webhook.

        Raises as `read_uploads` and `ImageUrls.fetch` do, and BadParameter.
        """
        kind = media_type(request)
        if kind != JSON and not kind.endswith("+json"):
            return await read_uploads(request, self._limits), Options(), None
        document = parse_json_object(await read_body(request, self._limits))
        if unknown := [name for name in document if name not in _FIELDS]:
            raise BadParameter(f"The JSON has {unknown[0][:40]!r}; supported are {', '.join(_FIELDS)}.")
        images = _images(document, self._limits)
        options = Options.parse_json(document)
        webhook = document.get(WEBHOOK)
        if webhook is not None and not isinstance(webhook, str):
            raise BadParameter(f"{WEBHOOK} is no string. Send a URL.")
        return await self._uploads(request, images), options, webhook

    async def _uploads(self, request: Request, images: Sequence[Any]) -> list[Upload]:
        urls = {number: image[_IMAGE_URL] for number, image in enumerate(images) if isinstance(image, dict)}
        encoded = {number: image for number, image in enumerate(images) if number not in urls}
        data = await asyncio.to_thread(_decoded, encoded)
        if urls:
            if self._urls is None:
                raise BadParameter(
                    f"{_IMAGE_URL} is not supported here: fetch_urls is off. Send the image's bytes as base64 in image."
                )
            fetched = await cancel_on_disconnect(request, self._urls.fetch(list(urls.values()), self._limits))
            data |= dict(zip(urls, fetched, strict=True))
        return [Upload(None, data[number]) for number in range(len(images))]

    def documented(self) -> Body:
        """The body as OpenAPI describes it."""
        # OpenAPI 3.1 has contentMediaType alone; generators of clients know a file by the older format.
        image = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
        form = {
            "type": "object",
            "required": [IMAGE],
            "properties": {
                IMAGE: {"type": "array", "minItems": 1, "maxItems": self._limits.max_images, "items": image}
            },
        }
        raw = {kind: {"schema": {"maxLength": self._limits.max_bytes}} for kind in MEDIA_TYPES.values()}
        return Body(
            f"A form with one or more parts named {IMAGE}; the image itself, whose first bytes decide its format; or "
            f"JSON with base64 or data: URIs{', or with URLs that ingest fetches' if self._urls else ''}.",
            {
                "multipart/form-data": {
                    "schema": form,
                    "encoding": {IMAGE: {"contentType": ", ".join(MEDIA_TYPES.values())}},
                },
                JSON: {"schema": self._json_schema()},
                **raw,
            },
        )

    def _json_schema(self) -> dict[str, Any]:
        encoded: dict[str, Any] = {"type": "string", "format": "byte", "contentEncoding": "base64"}
        url = {"type": "string", "format": "uri", "maxLength": MAX_URL}
        by_url = {
            "type": "object",
            "required": [_IMAGE_URL],
            "properties": {_IMAGE_URL: url},
            "additionalProperties": False,
        }
        item = {"oneOf": [encoded, by_url]} if self._urls else encoded
        several = {"type": "array", "minItems": 1, "maxItems": self._limits.max_images, "items": item}
        sources = {IMAGE: encoded, _IMAGES: several} | ({_IMAGE_URL: url} if self._urls else {})
        options = {TOP: {"type": "integer", "minimum": 1}, THRESHOLD: THRESHOLD_SCHEMA}
        options |= {WEBHOOK: WEBHOOK_SCHEMA} if self._webhooks else {}
        return {
            "oneOf": [
                {
                    "type": "object",
                    "required": [name],
                    "properties": {name: schema, **options},
                    "additionalProperties": False,
                }
                for name, schema in sources.items()
            ]
        }


def _images(document: dict[str, Any], limits: Limits) -> list[Any]:
    """What stands for each image: base64, or an object with its URL."""
    given = [name for name in _SOURCES if name in document]
    if len(given) > 1:
        raise BadParameter(f"The JSON has {' and '.join(given)}. Send one of them.")
    images: Any = document.get(_IMAGES)
    if IMAGE in document:
        images = [document[IMAGE]]
    elif _IMAGE_URL in document:
        images = [{_IMAGE_URL: document[_IMAGE_URL]}]
    if not isinstance(images, list) or not images:
        raise NoImage('The JSON has no image. Send {"image": "<base64>"} or {"images": ["<base64>", ...]}.')
    if len(images) > limits.max_images:
        raise PayloadTooLarge(f"The JSON has more than {limits.max_images} images. Send them in several requests.")
    for number, image in enumerate(images):
        if isinstance(image, dict):
            _check_by_url(image, number)
    return images


def _check_by_url(image: dict[str, Any], number: int) -> None:
    if set(image) != {_IMAGE_URL} or not isinstance(image[_IMAGE_URL], str):
        raise BadParameter(
            f'Image {number} (counted from 0) is an object. Send base64, or {{"{_IMAGE_URL}": "https://..."}}.'
        )


def _decoded(images: dict[int, Any]) -> dict[int, bytes]:
    return {number: decode_base64(image, f"Image {number} (counted from 0)") for number, image in images.items()}
