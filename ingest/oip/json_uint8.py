"""A JSON array of whole numbers from 0 to 255 as bytes, without an object for each. Pure, knows no tensor.

Python's own parser makes a list of millions of numbers in one go and lets no other thread run meanwhile: 17 MB of
pixels stop a whole process for 0.2 s. NumPy takes such a text apart block by block and lets go of the interpreter.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Bytes taken apart at once: the dozen arrays that this takes stay in the processor's cache.
_BLOCK: Final = 2**18

_BAD, _DIGIT, _OPEN, _CLOSE, _COMMA, _SPACE = range(6)

_KINDS: Final = np.full(256, _BAD, np.uint8)
_KINDS[list(b"0123456789")] = _DIGIT
_KINDS[list(b" \t\n\r")] = _SPACE
_KINDS[ord("[")], _KINDS[ord("]")], _KINDS[ord(",")] = _OPEN, _CLOSE, _COMMA

#: Which token may follow which. An empty array holds no number, so it has no place here.
_FOLLOWS: Final = np.zeros((6, 6), np.bool_)
for _first, _second in (
    (_OPEN, _OPEN), (_OPEN, _DIGIT), (_DIGIT, _DIGIT), (_DIGIT, _COMMA), (_DIGIT, _CLOSE),
    (_CLOSE, _COMMA), (_CLOSE, _CLOSE), (_COMMA, _OPEN), (_COMMA, _DIGIT),
):  # fmt: skip
    _FOLLOWS[_first, _second] = True


def whole_numbers(text: bytes) -> NDArray[np.uint8]:
    """The numbers of one array, nested or flat, in the order written; raises ValueError where it is none."""
    if text[:1] != b"[" or text[-1:] != b"]":
        raise ValueError("not an array")
    found = []
    depth = 0
    begin = 0
    while begin < len(text):
        # Blocks end behind a comma and begin with the one before, so that no number is cut in two.
        end = len(text) if len(text) - begin <= _BLOCK else text.rfind(b",", begin + 1, begin + _BLOCK) + 1
        if end == 0:
            raise ValueError("not an array of numbers")
        block = np.frombuffer(text, np.uint8, end - begin, begin)
        numbers, depth = _numbers(block, depth, last=end == len(text))
        found.append(numbers)
        begin = end if end == len(text) else end - 1
    return np.concatenate(found)


def _numbers(block: NDArray[np.uint8], depth: int, *, last: bool) -> tuple[NDArray[np.uint8], int]:
    """The numbers of one block that begins in this depth, and the depth at its end."""
    kinds = _KINDS[block]
    if not kinds.all():
        raise ValueError("it holds something else than whole numbers")
    if (spaces := kinds == _SPACE).any():
        block, kinds = _without_spaces(block, kinds, spaces)
    if not _FOLLOWS[kinds[:-1], kinds[1:]].all():
        raise ValueError("commas and brackets do not fit")
    # A bracket counts from the place behind it.
    depths = depth + np.cumsum((kinds == _OPEN).astype(np.int8) - (kinds == _CLOSE).astype(np.int8), dtype=np.int32)
    if (depths[:-1] if last else depths).min(initial=1) < 1 or (last and depths[-1] != 0):
        raise ValueError("brackets do not match")
    return _values(block, kinds == _DIGIT), int(depths[-1])


def _without_spaces(
    block: NDArray[np.uint8], kinds: NDArray[np.uint8], spaces: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    kept = np.flatnonzero(~spaces)
    block, kinds = block[kept], kinds[kept]
    between_digits = (kinds[:-1] == _DIGIT) & (kinds[1:] == _DIGIT)
    if (np.diff(kept)[between_digits] > 1).any():
        raise ValueError("a space between two numbers")
    return block, kinds


def _values(block: NDArray[np.uint8], digit: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A block begins and ends with a bracket or a comma, so looking one place back or ahead never leaves it."""
    worth = np.where(digit, block - ord("0"), 0).astype(np.uint16)
    if (digit[3:] & digit[2:-1] & digit[1:-2] & digit[:-3]).any():
        raise ValueError("a number above 255")
    begins = digit[1:-1] & ~digit[:-2]
    if (begins & (worth[1:-1] == 0) & digit[2:]).any():
        raise ValueError("a number with a leading zero")
    value = worth.copy()
    value[1:] += 10 * worth[:-1]
    value[2:] += 100 * worth[:-2] * digit[1:-1]
    values = value[:-1][digit[:-1] & ~digit[1:]]
    if (values > 255).any():
        raise ValueError("a number above 255")
    return values.astype(np.uint8)
