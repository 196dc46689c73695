"""The description of a served model. Consumers publish it; ingest prepares images by it."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, Self, get_args

from stream.keys import valid_digest, valid_model_name, valid_version
from stream.unreadable import parse_json

ResizeMode = Literal["squash", "crop", "crop_to_aspect_ratio", "pad_to_aspect_ratio"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
OutputKind = Literal["classes", "binary", "labels", "values"]


#: Values of one input. Ingest takes several times as many bytes to prepare an image.
_LARGEST_INPUT: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class Resize:
    """How an image becomes the model's input. It is a property of the model, stored in its artefact.

    - `squash` scales both sides to the input size.
    - `crop` scales the shorter side to `shorter_side` pixels and cuts out the centre.
    - `crop_to_aspect_ratio` cuts out the largest centred box with the shape of the input, and scales that.
    - `pad_to_aspect_ratio` adds black bars until the image has the shape of the input, and scales the result.

    `antialias` is False for loaders that read only neighbouring pixels, as TensorFlow's bilinear resize does.
    `rounded` is False for loaders that keep fractions after scaling; only bilinear does. `fast_dct` is True for those
    that decode JPEG with libjpeg's fast DCT, as TensorFlow does.
    """

    mode: ResizeMode = "squash"
    interpolation: Interpolation = "bicubic"
    shorter_side: int | None = None
    antialias: bool = True
    rounded: bool = True
    fast_dct: bool = False

    def __post_init__(self) -> None:
        _check(self.mode in get_args(ResizeMode), "resize.mode", self.mode)
        _check(self.interpolation in get_args(Interpolation), "resize.interpolation", self.interpolation)
        _check(self.shorter_side is None or _is_count(self.shorter_side), "resize.shorter_side", self.shorter_side)
        _check(isinstance(self.antialias, bool), "resize.antialias", self.antialias)
        _check(self.rounded is True or self.interpolation == "bilinear", "resize.rounded", self.rounded)
        _check(isinstance(self.fast_dct, bool), "resize.fast_dct", self.fast_dct)


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One version of one model, as its consumers serve it; raises ValueError if a field makes no sense.

    The input is [N, height, width, channels]: 1 channel is greyscale, 3 are RGB, 4 are RGBA. Its type is uint8, or, if
    pixels have fractions, float32 of 0..255. The output is float32 [N, len(labels)]; `output_kind` says what it
    means. `digest` is the SHA-256 of the artefact in hexadecimal.

    `shape` is height, width and channels of an image. `preparation` names how images are prepared for this version: 16
    hexadecimal digits, equal for versions that may run each other's images. Whether pixels are rounded makes no
    difference: an entry with fractions has the rounded pixels, too.
    """

    name: str
    version: str
    digest: str
    height: int
    width: int
    resize: Resize
    labels: tuple[str, ...]
    precision: str = "fp32"
    channels: int = 3
    output_kind: OutputKind = "classes"
    shape: tuple[int, int, int] = field(init=False)
    preparation: str = field(init=False)

    def __post_init__(self) -> None:
        _check(valid_model_name(str(self.name)), "name", self.name)
        _check(valid_version(self.version), "version", self.version)
        _check(valid_digest(self.digest), "digest", self.digest)
        _check(_is_count(self.height), "height", self.height)
        _check(_is_count(self.width), "width", self.width)
        _check(bool(self.labels) and all(isinstance(label, str) for label in self.labels), "labels", self.labels)
        _check(isinstance(self.precision, str), "precision", self.precision)
        _check(self.channels in {1, 3, 4}, "channels", self.channels)
        _check(self.height * self.width * self.channels <= _LARGEST_INPUT, "width", self.width)
        _check(self.output_kind in get_args(OutputKind), "output_kind", self.output_kind)
        # Computed once: every image is compared with them.
        object.__setattr__(self, "shape", (self.height, self.width, self.channels))
        object.__setattr__(self, "preparation", _preparation(self.height, self.width, self.channels, self.resize))

    @property
    def input_bytes(self) -> int:
        """Bytes of one image as clients send it: uint8 [height, width, channels]."""
        return self.height * self.width * self.channels

    def encode(self) -> bytes:
        given = {name: value for name, value in asdict(self).items() if name in _given_fields(type(self))}
        return json.dumps(given, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what `encode` wrote. Raises ValueError for anything else, and ignores fields of newer versions."""
        try:
            document: dict[str, Any] = parse_json(raw)
            known = {name: value for name, value in document.items() if name in _given_fields(cls)}
            resize = {name: value for name, value in known.pop("resize").items() if name in Resize.__slots__}
            return cls(resize=Resize(**resize), labels=tuple(known.pop("labels")), **known)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a model description: {error}") from error


def _given_fields(kind: type[ModelDescription]) -> set[str]:
    """The fields that are written and read. The others are computed from them."""
    return {field.name for field in fields(kind) if field.init}


def _preparation(height: int, width: int, channels: int, resize: Resize) -> str:
    # Only what differs from the defaults counts, so that a field which a later release adds changes no name.
    named = {field.name: value for field in fields(resize) if (value := getattr(resize, field.name)) != field.default}
    named.pop("rounded", None)
    text = json.dumps([height, width, channels, named], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 16


def _check(holds: bool, field: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{field} of a model description cannot be {str(value)[:60]!r}")
