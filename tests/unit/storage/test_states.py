"""Unit tests of packed window states: their exact bytes, and that damage is seen."""

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


FOUND = [event(40, 1.5, -1), event(41, 2.0, None), event(70, None, 5), event(0, 4.0, 1)]
STATES = built(PLAN, 3, frame(VIEW, FOUND), np.array([0, 0, 0, 2]), lateness=0)
PACKED = encode_states(PLAN, STATES)
GOLDEN = (
    # format, stamp, newest, horizon, events, tiles
    "01 6c db e7 f2 48 00 00 00 00 00 00 00 46 00 00 00 00 00 00 00 01 00 00 00 01 00 00 00 "
    # event, created, revision, number, known, arrived
    "46 00 00 00 00 00 00 00 47 00 00 00 00 00 00 00 03 00 00 00 46 00 00 00 00 00 00 00 48 "
    "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 "
    # valid, int8, float64: null
    "01 05 00 00 00 00 00 00 00 00 "
    # tile: start, how many of each input
    "28 00 00 00 00 00 00 00 01 00 00 00 02 00 00 00 "
    # high and low of the sum, last
    "00 00 00 00 00 00 0c 40 00 00 00 00 00 00 00 00 ff"
)


def test_the_bytes_of_a_state_are_golden() -> None:
    """The format never changes under its number: states in Redis outlive the program."""
    assert PACKED[0] is not None
    assert PACKED[0].hex(" ") == GOLDEN
    assert head(PACKED[0]) == PACKED[0][:HEAD_BYTES]
    assert head(None) is None


def test_states_come_back_as_they_were() -> None:
    """Each entity has its own, those without a state none; the same content is the same bytes."""
    assert [one is None for one in PACKED] == [False, True, False]
    found = decode_states(PLAN, PACKED)
    for name in ("newest", "horizon", "event_counts", "tile_counts", "events", "tiles"):
        assert getattr(found, name).tobytes() == getattr(STATES, name).tobytes()
    assert encode_states(PLAN, found) == PACKED
    assert encode_states(PLAN, decode_states(PLAN, PACKED[::-1])) == PACKED[::-1]
    assert encode_states(PLAN, States.none(PLAN, 2)) == [None, None]
    assert decode_states(PLAN, []).present.tolist() == []


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_flipped_bit_is_damage(bit: int) -> None:
    """Wherever it is, the stamp, the format or the length is no more what it should be."""
    good = PACKED[0]
    assert good is not None
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= bit
        with pytest.raises(CorruptData, match="run `featurestore rebuild-online`"):
            decode_states(PLAN, [good, bytes(bad)])


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
