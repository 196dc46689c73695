"""One model of the matrix, and the judgement of what the export made of it."""

import contextlib
import io
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import keras
import numpy as np
import numpy.typing as npt
import onnxruntime

from export.__main__ import main
from export.convert.parity import sample_images

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]

#: The owner's own answers for pixels [N,H,W,C], in the artefact's form.
Predict = Callable[[Pixels], Floats]

#: What an artefact's file answers for pixels [N,H,W,C].
Answers = Callable[[Path, Pixels], Floats]


@dataclass(frozen=True, slots=True)
class Made:
    """A model's file or folder, and its owner's way of using it."""

    path: Path
    predict: Predict = field(repr=False)
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """`asks`: part of the advice if nothing in the file can tell how the model is used.

    `within`: how far a probability may be off, more than 1e-4 only for files that compute in fewer bits.
    """

    name: str
    make: Callable[[Path], Made] = field(repr=False)
    outputs: int = 3
    size: tuple[int, int, int] = (16, 16, 3)
    asks: str | None = None
    within: float = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """`difference` is None if the export ended with status 2; `text` is what it said."""

    right: bool
    difference: float | None
    text: str


def by_onnx_runtime(artefact: Path, images: Pixels) -> Floats:
    """What a consumer computes, without one."""
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(given)


def judge(case: Case, folder: Path, answers: Answers = by_onnx_runtime, *, seed: int = 0) -> Verdict:
    """Export the model, and compare the artefact's answers with the owner's: two outcomes are right, no third.

    `seed`: of the model's weights.
    """
    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / "labels.txt"
    labels.write_text("".join(f"label {number}\n" for number in range(case.outputs)))
    made = case.make(folder)
    name = f"case-{uuid4().hex[:8]}"
    words = [str(made.path), "--labels", str(labels), "--output", str(folder / "models"), "--name", name]
    try:
        status, text = _exported([*words, *made.options])
    except BaseException:  # noqa: BLE001  # whatever it is, it is a traceback in a user's terminal
        return Verdict(right=False, difference=None, text=traceback.format_exc())
    if status != 0 or case.asks is not None:
        asked = status == 2 and case.asks is not None and case.asks in text
        return Verdict(right=asked, difference=None, text=text)
    images = sample_images(*case.size)[:6]
    given = answers(folder / "models" / name / "1" / "model.onnx", images)
    expected = made.predict(images)
    same = given.shape == expected.shape
    difference = float(np.abs(given - expected).max()) if same else np.inf
    return Verdict(right=difference <= case.within, difference=difference, text=text)


def _exported(words: list[str]) -> tuple[int, str]:
    """The status, and everything that was printed but the progress."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(words)
    lines = [line for line in errors.getvalue().splitlines() if not line.startswith("[")]
    return status, "\n".join((*lines, output.getvalue()))


def pair(probability: Floats) -> Floats:
    """A single output as the artefact's two classes."""
    return np.hstack([1 - probability, probability])


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)
