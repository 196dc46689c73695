"""The description of a served model: what consumers publish and ingest obeys. Knows no ONNX and no pictures."""

import json
from dataclasses import asdict, dataclass
from typing import Literal, Self

ResizeMode = Literal["squash", "crop"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, slots=True)
class Resize:
    """How a picture becomes the model's input; a property of the model, stored in its artefact.

    `squash` scales both sides to the input size; `crop` scales the shorter side to `shorter_side`
    pixels and cuts the centre.
    """

    mode: ResizeMode = "squash"
    interpolation: Interpolation = "bicubic"
    shorter_side: int | None = None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One version of one model, as its consumers serve it.

    The input is uint8 [N, height, width, 3] RGB, the output float32 [N, len(labels)] probabilities.
    `digest` is the SHA-256 of the artefact in hexadecimal.
    """

    name: str
    version: str
    digest: str
    height: int
    width: int
    resize: Resize
    labels: tuple[str, ...]
    precision: str = "fp32"

    @property
    def input_bytes(self) -> int:
        """Bytes of one image: uint8 [height, width, 3]."""
        return self.height * self.width * 3

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read back what `encode` wrote; raises ValueError where it is something else."""
        try:
            fields = json.loads(raw)
            resize = Resize(**fields.pop("resize"))
            return cls(resize=resize, labels=tuple(fields.pop("labels")), **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a model description: {error}") from error
