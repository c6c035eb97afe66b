"""Unit tests of packed window states: their exact bytes, and that damage is seen."""

from dataclasses import fields

import numpy as np
import pytest

from featurestore.engine.tiles import built
from featurestore.errors import CorruptData
from featurestore.model.tiles import States, plan_of
from featurestore.storage.states import HEAD_BYTES, decode_states, encode_states, head
from tests.windows import feature, frame, view

VIEW = view(feature("mean", "float64", 60, 10), feature("last", "int8", 60, 10))
PLAN = plan_of(VIEW)


def event(at, value, small):
    """Describe an event."""
    return {
        "event": at, "created": at + 1 if at else None, "known": at + 2, "revision": 3,
        "number": at, "inputs": {"float64": value, "int8": small},
    }  # fmt: skip


FOUND = [event(40, 1.5, -1), event(55, 2.0, None), event(70, None, 5)]
FOUND += [event(at, 0.1, 1) for at in (30, 31, 32)] + [event(75, 4.0, 1)]
STATES, _ = built(PLAN, 3, frame(VIEW, FOUND), np.array([0, 0, 0, 2, 2, 2, 2]), lateness=0)
PACKED = encode_states(PLAN, STATES)
BARE = (
    # format, front stamp
    "02 58 e9 f1 9e",
    # newest, horizon
    "48 00 00 00 00 00 00 00 46 00 00 00 00 00 00 00",
    # how many numbers; stamp of records
    "02 00 00 00 ec 06 3f 4b",
    # how many events, bare ones, tiles
    "01 00 00 00 02 00 00 00 00 00 00 00",
    # numbers
    "28 00 00 00 00 00 00 00 37 00 00 00 00 00 00 00",
    # event: created, revision, number
    "47 00 00 00 00 00 00 00 03 00 00 00 46 00 00 00 00 00 00 00",
    # known, arrived
    "48 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    # when it was
    "46 00 00 00 00 00 00 00",
    # valid, int8, float64
    "01 05 00 00 00 00 00 00 00 00",
    # a bare event, and when it was
    "28 00 00 00 00 00 00 00",
    # valid, int8, float64
    "03 ff 00 00 00 00 00 00 f8 3f",
    # a bare event, and when it was
    "37 00 00 00 00 00 00 00",
    # valid, int8, float64
    "02 00 00 00 00 00 00 00 00 40",
)
TILED = (
    # format, front stamp
    "02 a1 de d5 16",
    # newest, horizon
    "4d 00 00 00 00 00 00 00 4b 00 00 00 00 00 00 00",
    # how many numbers; stamp of records
    "03 00 00 00 d4 25 75 7d",
    # how many events, bare ones, tiles
    "01 00 00 00 00 00 00 00 01 00 00 00",
    # numbers
    "1e 00 00 00 00 00 00 00 1f 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00",
    # event: created, revision, number
    "4c 00 00 00 00 00 00 00 03 00 00 00 4b 00 00 00 00 00 00 00",
    # known, arrived
    "4d 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    # when it was
    "4b 00 00 00 00 00 00 00",
    # valid, int8, float64
    "03 01 00 00 00 00 00 00 10 40",
    # tile: start, how many of each input
    "1e 00 00 00 00 00 00 00 03 00 00 00 03 00 00 00",
    # high and low of the sum, last
    "34 33 33 33 33 33 d3 3f 00 00 00 00 00 00 80 bc 01",
)


def test_the_bytes_of_a_state_are_golden() -> None:
    """The format never changes under its number: states in Redis outlive the program."""
    assert [one and one.hex(" ") for one in PACKED] == [" ".join(BARE), None, " ".join(TILED)]
    assert PACKED[0] is not None
    assert head(PACKED[0]) == PACKED[0][:HEAD_BYTES]
    assert head(None) is None


def test_states_come_back_as_they_were() -> None:
    """Each entity has its own, those without a state none; the same content is the same bytes."""
    assert [one is None for one in PACKED] == [False, True, False]
    found = decode_states(PLAN, PACKED)
    for one in fields(States):
        assert getattr(found, one.name).tobytes() == getattr(STATES, one.name).tobytes()
    assert encode_states(PLAN, found) == PACKED
    assert encode_states(PLAN, decode_states(PLAN, PACKED[::-1])) == PACKED[::-1]
    assert encode_states(PLAN, States.none(PLAN, 2)) == [None, None]
    assert decode_states(PLAN, []).present.tolist() == []


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_flipped_bit_is_damage(bit: int) -> None:
    """Wherever it is, the stamp, the format or the length is no more what it should be."""
    good = PACKED[0]
    assert good is not None
    fronts = HEAD_BYTES + 2 * 8
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= bit
        with pytest.raises(CorruptData, match="run `featurestore rebuild-online`"):
            decode_states(PLAN, [good, bytes(bad)])
        if at < fronts:
            with pytest.raises(CorruptData, match="run `featurestore rebuild-online`"):
                decode_states(PLAN, [good[:fronts], bytes(bad[:fronts])], only_fronts=True)


def test_a_front_gives_what_a_push_needs() -> None:
    """The horizon and the numbers of older events, without a record."""
    fronts = [
        one and one[: HEAD_BYTES + 8 * count] for one, count in zip(PACKED, (2, 0, 3), strict=True)
    ]
    found = decode_states(PLAN, fronts, only_fronts=True)
    for name in ("newest", "horizon", "folded_counts", "folded"):
        assert getattr(found, name).tobytes() == getattr(STATES, name).tobytes()
    assert found.folded.tolist() == [40, 55, 30, 31, 32]
    assert not found.present.any()
    with pytest.raises(CorruptData, match="length"):
        decode_states(PLAN, PACKED, only_fronts=True)


def test_a_state_cut_short_or_run_on_is_damage() -> None:
    """Every length but its own is refused."""
    good = PACKED[0]
    assert good is not None
    for bad in (*(good[:size] for size in range(len(good))), good + b"\0", good + good):
        with pytest.raises(CorruptData, match="a state"):
            decode_states(PLAN, [bad])


def test_states_of_other_columns_are_damage() -> None:
    """Records of one size but of other inputs, or for other functions, are told apart."""
    mean, least = feature("mean", "float64", 60, 10, of=1), feature("first", "int8", 60, 10)
    for one, two in ((mean, VIEW.features[1]), (VIEW.features[0], least)):
        other = plan_of(view(one, two))
        assert (other.event.itemsize, other.tile.itemsize) == (
            PLAN.event.itemsize,
            PLAN.tile.itemsize,
        )
        with pytest.raises(CorruptData, match="stamp"):
            decode_states(other, PACKED)
