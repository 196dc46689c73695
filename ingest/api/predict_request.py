"""A request to `/predict`: its options, in the query or in JSON, and its images, as uploads or as JSON."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from starlette.datastructures import QueryParams
from starlette.requests import Request

from ingest.api.option_names import ELSEWHERE, IN_QUERY, THRESHOLD, TOP
from ingest.api.webhook_requests import WEBHOOK, WEBHOOK_SCHEMA
from ingest.classification import cancel_on_disconnect
from ingest.errors import BadParameter, ImageNotFetched, NoImage, PayloadTooLarge, Problem, UrlNotAllowed
from ingest.form import IMAGE, read_form
from ingest.images.formats import MEDIA_TYPES, SUPPORTED
from ingest.openapi.operation import EXAMPLE_BASE64, JSON, Body, Parameter
from ingest.outbound.addresses import MAX_URL
from ingest.request_body import CONTENT_CODINGS, Limits, Upload, in_thread_if_large, media_type, read_body, read_image
from ingest.request_json import decode_base64, is_url, parse_json_object, refuse_unknown, shown
from stream.model import ModelDescription

if TYPE_CHECKING:
    from ingest.api.image_urls import ImageUrls  # It imports httpx, which need not be installed.

#: How many labels a client gets if it does not say.
DEFAULT_TOP: Final = 5

THRESHOLD_SCHEMA: Final = {"type": "number", "minimum": 0, "maximum": 1}
THRESHOLD_PARAMETER: Final = Parameter(
    THRESHOLD,
    "query",
    "Leaves out labels with a lower probability",
    THRESHOLD_SCHEMA,
)
CONTENT_ENCODING: Final = Parameter(
    "Content-Encoding", "header", "How the body is compressed", {"enum": sorted(CONTENT_CODINGS)}
)


@dataclass(frozen=True, slots=True)
class Options:
    """`top`: how many labels. `threshold`: the lowest probability. None where the client did not say."""

    top: int | None = None
    threshold: float | None = None

    @classmethod
    def parse_query(cls, query: QueryParams) -> Self:
        """Raises BadParameter, also for an unknown name."""
        refuse_unknown(query, IN_QUERY)
        top = _only(query, TOP)
        return cls(None if top is None else _whole(top), parse_threshold(query))

    @classmethod
    def parse_json(cls, document: dict[str, Any]) -> Self:
        """Raises BadParameter."""
        top, threshold = document.get(TOP), document.get(THRESHOLD)
        if isinstance(top, float) and top.is_integer():
            top = int(top)  # In JSON, 3.0 is a whole number.
        if top is not None and type(top) is not int:
            raise _bad_top(top)
        if threshold is not None and type(threshold) not in {int, float}:
            raise _bad_threshold(shown(threshold))
        return cls(top, None if threshold is None else _probability(threshold))

    def or_else(self, other: "Options") -> "Options":
        """These options, and the other ones where these say nothing."""
        return Options(
            other.top if self.top is None else self.top,
            other.threshold if self.threshold is None else self.threshold,
        )

    def top_for(self, model: ModelDescription) -> int:
        """How many labels to compute, at most all classes; 0 for a model that gives values. Raises BadParameter."""
        classes = len(model.labels)
        if model.output_kind == "values":
            if self != Options():
                raise BadParameter(f"{model.name} gives values, not labels. Leave out {TOP} and {THRESHOLD}.")
            return 0
        if self.top is None:
            return min(DEFAULT_TOP, classes) if self.threshold is None else classes
        if not 1 <= self.top <= classes:
            raise BadParameter(f"{TOP} is {self.top}; it must be one whole number from 1 to {classes}.")
        return self.top


def parse_threshold(query: QueryParams) -> float | None:
    """The threshold in the query; raises BadParameter."""
    threshold = _only(query, THRESHOLD)
    return None if threshold is None else _probability(threshold)


def _only(query: QueryParams, name: str) -> str | None:
    given = query.getlist(name)
    if len(given) > 1:
        raise BadParameter(f"{name} is {shown(', '.join(given))}; it must be given once.")
    return given[0] if given else None


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise _bad_top(text)
    return int(text)


def _probability(given: str | float) -> float:
    try:
        value = float(given) if not isinstance(given, str) or (given.isascii() and len(given) < 40) else None
    except (ValueError, OverflowError):
        value = None
    if value is None or not 0 <= value <= 1:
        raise _bad_threshold(shown(given) if value is None else f"{value:g}")
    return value


def _bad_top(given: object) -> BadParameter:
    return BadParameter(f"{TOP} is {shown(given)}; it must be one whole number.")


def _bad_threshold(given: str) -> BadParameter:
    return BadParameter(f"{THRESHOLD} is {given}; it must be a number from 0 to 1.")


_IMAGES: Final = "images"
_IMAGE_URL: Final = "image_url"

#: Exactly one of them is in the JSON.
_SOURCES: Final = (IMAGE, _IMAGES, _IMAGE_URL)
_FIELDS: Final = (*_SOURCES, TOP, THRESHOLD, WEBHOOK)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What a JSON body says. Each image has its position: those in `images` are there, the others have `urls`."""

    options: Options
    webhook: str | None
    images: dict[int, bytes]
    urls: dict[int, str]


class PredictBody:
    """Reads the images of a request. Without `urls`, those by URL are refused. `webhooks`: whether they are on."""

    def __init__(self, limits: Limits, urls: "ImageUrls | None" = None, *, webhooks: bool = False) -> None:
        self._limits = limits
        self._webhooks = webhooks
        self._urls = urls

    async def read(self, request: Request, in_query: Options) -> tuple[list[Upload], Options, str | None]:
        """The images of the body, the options, and if it is JSON the webhook. JSON has options that win over the query.

        Raises as `read_form`, `read_image` and `ImageUrls.fetch` do.
        """
        kind = media_type(request)
        if kind == JSON or kind.endswith("+json"):
            return await self._read_json(request, in_query)
        if kind.startswith("multipart/"):
            return await read_form(request, self._limits, elsewhere=ELSEWHERE), in_query, None
        return [await read_image(request, self._limits)], in_query, None

    async def _read_json(self, request: Request, in_query: Options) -> tuple[list[Upload], Options, str | None]:
        body = await read_body(request, self._limits)
        parsed = await in_thread_if_large(lambda: self._parse(body), size=len(body))
        uploads = {number: Upload(None, data) for number, data in parsed.images.items()}
        if parsed.urls:
            if self._urls is None:
                raise BadParameter(
                    f"{_IMAGE_URL} is not supported here: fetch_urls is off. Send the image's bytes as base64 in image."
                )
            fetched = await cancel_on_disconnect(request, self._urls.fetch(list(parsed.urls.values()), self._limits))
            uploads |= dict(zip(parsed.urls, fetched, strict=True))
        return [uploads[number] for number in sorted(uploads)], parsed.options.or_else(in_query), parsed.webhook

    def _parse(self, body: bytes) -> _Parsed:
        document = parse_json_object(body, smaller="images as base64", most_with_many_values=0)
        if unknown := [name for name in document if name not in _FIELDS]:
            raise BadParameter(f"The JSON has {unknown[0][:40]!r}. {self._remedy(unknown[0])}")
        images = _images(document, self._limits)
        options = Options.parse_json(document)
        webhook = document.get(WEBHOOK)
        if webhook is not None and not isinstance(webhook, str):
            raise BadParameter(f"{WEBHOOK} is no string. Send a URL.")
        urls = {number: image[_IMAGE_URL] for number, image in enumerate(images) if isinstance(image, dict)}
        encoded = {number: image for number, image in enumerate(images) if number not in urls}
        if self._urls:
            _refuse_bare_urls(encoded, len(images))
        decoded = {number: decode_base64(image, _name(number, len(images))) for number, image in encoded.items()}
        return _Parsed(options, webhook, decoded, urls)

    def _remedy(self, unknown: str) -> str:
        """What to do about this field, which JSON does not have."""
        name = unknown.lower().replace("_", "-")
        if name in ELSEWHERE and name not in _FIELDS:
            return ELSEWHERE[name]
        off = {_IMAGE_URL: not self._urls, WEBHOOK: not self._webhooks}
        return f"Supported here: {', '.join(field for field in _FIELDS if not off.get(field))}."

    @property
    def problems(self) -> tuple[type[Problem], ...]:
        """Those of images by URL, as OpenAPI describes them."""
        return (UrlNotAllowed, ImageNotFetched) if self._urls else ()

    def documented(self) -> Body:
        """The body as OpenAPI describes it."""
        # OpenAPI 3.1 has contentMediaType alone; generators of clients know a file by the older format.
        image = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
        form = {
            "type": "object",
            "required": [IMAGE],
            "propertyNames": {"minLength": 1},
            "properties": {
                IMAGE: {"type": "array", "minItems": 1, "maxItems": self._limits.max_images, "items": image}
            },
        }
        # The image itself may have any other type. Generators of clients know this one, and warn of others.
        raw = {"type": "string", "format": "binary", "maxLength": self._limits.max_bytes}
        return Body(
            f"A form with one or more parts named {IMAGE}; the image itself, with any other content type, since its "
            f"first bytes decide its format ({SUPPORTED}); or JSON with base64 or data: URIs"
            f"{', or with URLs that ingest fetches' if self._urls else ''}.",
            {
                "multipart/form-data": {
                    "schema": form,
                    "encoding": {IMAGE: {"contentType": ", ".join(MEDIA_TYPES.values())}},
                },
                JSON: {"schema": self._json_schema(), "example": {IMAGE: EXAMPLE_BASE64}},
                "application/octet-stream": {"schema": raw},
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
            _check_by_url(image, _name(number, len(images)))
    return images


def _name(number: int, count: int) -> str:
    """How messages call one image of a request."""
    return "The image" if count == 1 else f"Image {number} (counted from 0)"


def _refuse_bare_urls(images: dict[int, Any], count: int) -> None:
    """Raises BadParameter."""
    for number, image in images.items():
        if isinstance(image, str) and is_url(image):
            raise BadParameter(f'{_name(number, count)} is a URL. Send it as {{"{_IMAGE_URL}": "https://..."}}.')


def _check_by_url(image: dict[str, Any], name: str) -> None:
    if set(image) != {_IMAGE_URL}:
        raise BadParameter(f'{name} is an object. Send base64, or {{"{_IMAGE_URL}": "https://..."}}.')
    if not isinstance(url := image[_IMAGE_URL], str):
        raise BadParameter(f'{_IMAGE_URL} is {shown(url)}; it must be a URL, such as "https://example.com/cat.jpg".')
