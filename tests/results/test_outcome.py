"""The outcome's codec: its bytes are pinned, and what goes in comes out."""

import json
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.outcome import DamagedOutcome, Done, Failed, Outcome, decode, encode
from stream.model import OutputKind

DONE = Done(
    id="ab", version="3", provider="CPUExecutionProvider", indices=(281, 7), probabilities=(0.5, 0.25),
    batch=4, queue_ms=1.5, run_ms=20.25, digest="f00d",
)  # fmt: skip
GOLDEN_DONE = (
    b'{"kind": "done", "id": "ab", "version": "3", "provider": "CPUExecutionProvider", "classes": 2, '
    b'"batch": 4, "queue_ms": 1.5, "run_ms": 20.25, "digest": "f00d", "crc": 2718165725}\n'
    b"\x19\x01\x00\x00\x07\x00\x00\x00\x00\x00\x00\x3f\x00\x00\x80\x3e"
)
FAILED = Failed(id="ab", reason="dead_letter", detail="why")
GOLDEN_FAILED = b'{"kind": "failed", "id": "ab", "reason": "dead_letter", "detail": "why", "crc": 4004407549}\n'


@pytest.mark.parametrize(("outcome", "raw"), [(DONE, GOLDEN_DONE), (FAILED, GOLDEN_FAILED)])
def test_the_bytes_in_redis_are_these(outcome: Outcome, raw: bytes) -> None:
    """A change here breaks results that are stored, and a rolling change of versions."""
    assert encode(outcome) == raw
    assert decode(raw) == outcome


def test_an_outcome_of_an_older_consumer_is_read() -> None:
    """It has no checksum, and before that it did not say which file it comes from."""
    unchecked = GOLDEN_DONE.replace(b', "crc": 2718165725', b"")
    assert decode(unchecked) == DONE
    assert decode(unchecked.replace(b', "digest": "f00d"', b"")) == replace(DONE, digest="")


@pytest.mark.parametrize(("outcome", "raw"), [(DONE, GOLDEN_DONE), (FAILED, GOLDEN_FAILED)])
def test_a_flipped_bit_never_makes_another_outcome(outcome: Outcome, raw: bytes) -> None:
    """Only in the name of the checksum it goes unnoticed, and changes nothing. Elsewhere its client hears of it."""
    unnoticed = 0
    for position in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        try:
            assert decode(bytes(damaged)) == outcome
            unnoticed += 1
        except DamagedOutcome:
            pass
    assert unnoticed <= 8 * len("crc")


def test_a_damaged_outcome_is_no_foreign_value() -> None:
    """Its client hears what happened, and does not get a 404."""
    for damaged in (GOLDEN_DONE[:-1] + b"x", GOLDEN_DONE[:-1], GOLDEN_FAILED.replace(b"why", b"who")):
        with pytest.raises(DamagedOutcome):
            decode(damaged)


@pytest.mark.parametrize("kind", ["binary", "labels", "values"])
def test_the_output_kind_comes_back(kind: OutputKind) -> None:
    """It follows the digest; an outcome without it is one of classes."""
    outcome = replace(DONE, output_kind=kind, probabilities=(-7.5, 1e6))
    assert f'"digest": "f00d", "output": "{kind}", "crc": '.encode() in encode(outcome)
    assert decode(encode(outcome)) == outcome


def test_an_unknown_output_kind_is_refused() -> None:
    """Its numbers would be shown as probabilities otherwise."""
    unchecked = GOLDEN_DONE.replace(b', "crc": 2718165725', b', "output": "boxes"')
    with pytest.raises(ValueError, match="unknown output kind 'boxes'"):
        decode(unchecked)


@pytest.mark.parametrize(
    ("field", "value"),
    [("queue_ms", "1" + "0" * 400), ("run_ms", "1e999"), ("batch", "1" + "0" * 400), ("provider", r'"\ud800"'),
     ("provider", r'"a\r\nb: c"'), ("provider", '"é"'), ("digest", f'"{"0" * 65}"'), ("digest", "null")],
)  # fmt: skip
def test_an_outcome_that_no_response_can_carry_is_refused(field: str, value: str) -> None:
    """The provider is a header, the digest the key of a hash, and times are summed. It would be a 500 otherwise."""
    line, _, numbers = GOLDEN_DONE.replace(b', "crc": 2718165725', b"").partition(b"\n")
    before = json.dumps(json.loads(line)[field]).encode()
    with pytest.raises(ValueError, match=r"."):
        decode(line.replace(b'"%s": %s' % (field.encode(), before), f'"{field}": {value}'.encode()) + b"\n" + numbers)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1, width=32)), max_size=50))
def test_numbers_come_back_exactly(ranked: list[tuple[int, float]]) -> None:
    """float32 probabilities are not rounded on their way."""
    indices, values = tuple(index for index, _ in ranked), tuple(value for _, value in ranked)
    outcome = Done("id", "1", "cpu", indices, values, 1, 0.0, 0.0)
    assert decode(encode(outcome)) == outcome


@given(st.text(), st.floats(0, allow_infinity=False))
def test_the_header_is_what_json_makes_of_it(text: str, time_ms: float) -> None:
    """It is written out by hand, and read by whatever reads JSON."""
    outcome = replace(DONE, id=text, version=text, provider=text, digest=text, queue_ms=time_ms, run_ms=time_ms)
    header = {"kind": "done", "id": text, "version": text, "provider": text, "classes": 2, "batch": 4,
              "queue_ms": round(time_ms, 3), "run_ms": round(time_ms, 3), "digest": text}  # fmt: skip
    unclosed, _, _ = encode(outcome).partition(b', "crc": ')
    assert unclosed + b"}" == json.dumps(header).encode()


@given(st.text())
def test_any_sentence_comes_back(detail: str) -> None:
    """A line break in a detail must not end the header."""
    outcome = Failed("id", "inference_failed", detail)
    assert decode(encode(outcome)) == outcome


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}\n", b'{"kind": "odd"}\n', GOLDEN_DONE[:-1], GOLDEN_DONE + b"x", GOLDEN_FAILED[:20], b"\xff\n"],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    """Foreign bytes under a result's key are an error, not an answer."""
    with pytest.raises(ValueError):
        decode(raw)


def test_probabilities_are_little_endian_float32() -> None:
    """The layout is stated independently of the machine."""
    assert encode(DONE).endswith(struct.pack("<2I2f", 281, 7, 0.5, 0.25))
