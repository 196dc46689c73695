"""The entry's codec: its bytes are pinned, and what goes in comes out."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.entry import FIELDS, DamagedEntry, Entry, MalformedEntry, checksum
from tests.support.redis.inline import inline

GOLDEN = {
    b"due": b"1700000000123",
    b"v": b"1",
    b"id": b"00112233445566778899aabbccddeeff",
    b"reply": b"host-1-abcd",
    b"top": b"5",
    b"h": b"1",
    b"w": b"2",
    b"px": b"\x00\x01\x02\xfd\xfe\xff",
    b"sum": b"464248878",
}
ENTRY = Entry(
    id="00112233445566778899aabbccddeeff",
    reply="host-1-abcd",
    top=5,
    height=1,
    width=2,
    pixels=b"\x00\x01\x02\xfd\xfe\xff",
    due_ms=1700000000123,
)


TRACED_GOLDEN = {
    **GOLDEN,
    b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"sent": b"1700000000001000000",
}
TRACED = replace(
    ENTRY, traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", sent_ns=1_700_000_000_001_000_000
)


def as_redis_stores(entry: Entry) -> dict[bytes, bytes]:
    """The fields of the entry with its pixels."""
    return {
        str(name).encode(): bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for name, value in inline(entry, entry.due_ms).items()
    }


def test_the_bytes_on_the_wire_are_these() -> None:
    """A change here is a new layout, and needs a new `v`."""
    assert as_redis_stores(ENTRY) == GOLDEN
    assert Entry.decode(GOLDEN) == ENTRY


def test_a_traced_entry_has_two_fields_more() -> None:
    """Consumers that do not know them ignore them, and ingests that do not know them leave them out."""
    assert as_redis_stores(TRACED) == TRACED_GOLDEN
    assert Entry.decode(TRACED_GOLDEN) == TRACED


def test_fractions_are_a_field_of_their_own() -> None:
    """A consumer that does not know them reads the rounded pixels."""
    whole = replace(ENTRY, fractions=bytes(range(6)))
    stored = as_redis_stores(whole)
    assert {**stored, b"sum": b""} == {**GOLDEN, b"fr": bytes(range(6)), b"sum": b""}
    assert Entry.decode(stored) == whole
    with pytest.raises(DamagedEntry):
        Entry.decode({**stored, b"fr": bytes(6)})
    del stored[b"sum"]
    with pytest.raises(MalformedEntry, match="5 fractions do not fit 6 pixels"):
        Entry.decode({**stored, b"fr": bytes(5)})


def test_the_names_of_all_fields_are_known() -> None:
    """A dead letter shows other fields as unknown."""
    full = replace(
        TRACED,
        channels=1,
        width=6,
        fractions=bytes(6),
        more_ms=1,
        webhook="https://example.com/",
        preparation=16 * "0",
    )
    assert as_redis_stores(full).keys() == {name.encode() for name in FIELDS}
    assert Entry.decode(as_redis_stores(full)) == full


def test_an_entry_says_that_more_are_on_their_way() -> None:
    """A hint: a reader that does not know it reads the same entry."""
    followed = replace(ENTRY, more_ms=7)
    assert as_redis_stores(followed) == {**GOLDEN, b"more": b"7"}
    assert Entry.decode({**GOLDEN, b"more": b"7"}) == followed


@pytest.mark.parametrize(("channels", "checksum"), [(1, b"306250333"), (4, b"227534051")])
def test_an_entry_names_its_channels_unless_they_are_three(channels: int, checksum: bytes) -> None:
    """Greyscale and RGBA images; an entry without the field is RGB."""
    entry = replace(ENTRY, pixels=bytes(2 * channels), channels=channels)
    stored = {**GOLDEN, b"px": bytes(2 * channels), b"c": str(channels).encode(), b"sum": checksum}
    assert as_redis_stores(entry) == stored
    assert Entry.decode(stored) == entry
    with pytest.raises(MalformedEntry, match=f"1 x 2 x {channels} pixels"):
        replace(entry, pixels=bytes(6))


@settings(deadline=None)  # a loaded machine takes any time
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1000), st.uuids(), st.integers(0, 2**50), st.data())
def test_what_goes_in_comes_out(height: int, width: int, top: int, id_: object, due: int, data: st.DataObject) -> None:
    """For any image, class count and deadline, traced or not."""
    pixels = data.draw(st.binary(min_size=height * width * 3, max_size=height * width * 3))
    entry = Entry(id=f"{id_}", reply="", top=top, height=height, width=width, pixels=pixels, due_ms=due)
    if sent := data.draw(st.integers(0, 2**62)):
        entry = replace(entry, traceparent=f"00-{sent:032x}-{due:016x}-01", sent_ns=sent)
    assert Entry.decode(as_redis_stores(entry)) == entry


@pytest.mark.parametrize("entry", [ENTRY, replace(ENTRY, fractions=bytes(range(6)))])
def test_pixels_and_fractions_come_as_one_value(entry: Entry) -> None:
    """It is the same entry as with both among its fields, and as well checked."""
    fields = {name: value for name, value in as_redis_stores(entry).items() if name not in {b"px", b"fr"}}
    value = bytes(entry.pixel_value)
    assert Entry.decode(fields, value) == entry
    assert Entry.decode(fields, memoryview(value)) == entry
    with pytest.raises(DamagedEntry, match="checksum"):
        Entry.decode(fields, value[:-1] + b"x")
    with pytest.raises(DamagedEntry, match="gone") as gone:
        Entry.decode(fields)
    assert (gone.value.id, gone.value.due_ms) == (ENTRY.id, ENTRY.due_ms)


UNCHECKED = {name: value for name, value in GOLDEN.items() if name != b"sum"}


def test_an_entry_of_an_older_ingest_has_no_checksum() -> None:
    """It is read as it is, so that ingests and consumers can be replaced one after the other."""
    assert Entry.decode(UNCHECKED) == ENTRY


@pytest.mark.parametrize("name", [b"v", b"id", b"top", b"h", b"w", b"px", b"sum"])
def test_each_flipped_bit_is_noticed(name: bytes) -> None:
    """In everything that decides what the prediction is and whose it is. Its client still gets a response."""
    for position in range(8 * len(GOLDEN[name])):
        value = bytearray(GOLDEN[name])
        value[position // 8] ^= 1 << position % 8
        with pytest.raises(DamagedEntry) as damaged:
            Entry.decode({**GOLDEN, name: bytes(value)})
        assert damaged.value.reply == ENTRY.reply
        assert name == b"id" or damaged.value.id == ENTRY.id


@given(st.integers(0, 224 * 224 * 3 - 1), st.integers(1, 255))
def test_damage_anywhere_in_a_large_image_is_noticed(position: int, difference: int) -> None:
    """The pixels are summed up before their CRC is taken; the last ones do not fill a row."""
    pixels = bytearray(range(256)) * 588
    before = checksum(b"about", bytes(pixels))
    pixels[position] ^= difference
    assert checksum(b"about", bytes(pixels)) != before


@pytest.mark.parametrize("block", [8, 512, 4096])
def test_blocks_that_change_places_are_noticed(block: int) -> None:
    """Sums do not depend on an order, but the rows that are summed have another length than blocks of a disk."""
    pixels = bytes(number * number % 251 for number in range(5 * 4096))
    swapped = pixels[block : 2 * block] + pixels[:block] + pixels[2 * block :]
    assert checksum(b"about", swapped) != checksum(b"about", pixels)


@pytest.mark.parametrize("name", sorted(UNCHECKED))
def test_a_missing_field_is_named(name: bytes) -> None:
    """Each field is needed."""
    with pytest.raises(MalformedEntry, match=name.decode()):
        Entry.decode({key: value for key, value in UNCHECKED.items() if key != name})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"v", b"2"),
        (b"h", b"two"),
        (b"h", b"2"),
        (b"px", b"12345"),
        (b"due", b""),
        (b"id", b"\xff"),
        (b"traceparent", b"\xff"),
        (b"sent", b"now"),
    ],
)
def test_a_wrong_field_is_refused(field: bytes, value: bytes) -> None:
    """Another layout, a number that is none, pixels that don't fit."""
    with pytest.raises(MalformedEntry):
        Entry.decode({**UNCHECKED, field: value})


def test_unknown_fields_are_ignored() -> None:
    """A newer ingest may add some."""
    assert Entry.decode({**GOLDEN, b"colour": b"red"}) == ENTRY
