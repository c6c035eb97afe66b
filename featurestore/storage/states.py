"""Packed window states: one entity's events and tiles as bytes, the same for the same content.

====== ===== ==================================================================
 field  bytes content
====== ===== ==================================================================
format  1     1
stamp   4     CRC-32 of the layout and all that follows
newest  8     newest known-at that the state knows of, UTC microseconds
horizon 8     events from this moment on stand one by one, UTC microseconds
events  4     how many events
tiles   4     how many tiles
records …     the events, then the tiles, as `model.tiles` lays them out
====== ===== ==================================================================

All before the records is the head, by which writers tell states of one key apart. Numbers are
little-endian. A state does not name its columns, but its stamp is of them too.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import is_not
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptData
from featurestore.model.tiles import Integers, Plan, Records, States
from featurestore.model.time import BEGINNING

FORMAT = 1
_HEAD = np.dtype(
    [
        ("format", "u1"),
        ("stamp", "<u4"),
        ("newest", "<i8"),
        ("horizon", "<i8"),
        ("events", "<u4"),
        ("tiles", "<u4"),
    ]
)
HEAD_BYTES = _HEAD.itemsize
_AFTER_STAMP = slice(5, None)
"""What the stamp is of."""

_take: Callable[[bytes, slice], bytes] = bytes.__getitem__
_view: Callable[[memoryview, slice], memoryview] = memoryview.__getitem__


def encode_states(plan: Plan, states: States) -> list[bytes | None]:
    """Pack each entity's state; None for an entity that has none."""
    heads = np.zeros(len(states), _HEAD)
    heads["format"] = FORMAT
    heads["newest"], heads["horizon"] = states.newest, states.horizon
    heads["events"], heads["tiles"] = states.event_counts, states.tile_counts
    events = _cut(states.events, states.event_counts)
    tiles = _cut(states.tiles, states.tile_counts)
    one = np.ones(len(states), np.int64)
    afters = map(_view, _cut(heads, one), repeat(_AFTER_STAMP))
    stamps = map(crc32, afters, repeat(crc32(plan.stamp)))
    for records in (events, tiles):
        stamps = map(crc32, records, stamps)
    heads["stamp"] = np.fromiter(stamps, np.uint32, len(states))
    packed = np.empty(len(states), object)
    packed[:] = list(map(b"".join, zip(_cut(heads, one), events, tiles, strict=True)))
    packed[~states.present] = None
    found: list[bytes | None] = packed.tolist()
    return found


def decode_states(plan: Plan, packed: Sequence[bytes | None]) -> States:
    """Unpack states; None stands for an entity that has none.

    Raises:
        CorruptData: a state is not as it was written, or was written for other columns.
    """
    there = np.fromiter(map(is_not, packed, repeat(None)), np.bool_, len(packed))
    rows = [row for row in packed if row is not None]
    if not rows:
        return States.none(plan, len(packed))
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    if (sizes < _HEAD.itemsize).any():
        raise _corrupt(f"a state is shorter than the {_HEAD.itemsize} bytes of its header")
    heads = np.frombuffer(b"".join(map(_take, rows, repeat(slice(_HEAD.itemsize)))), _HEAD)
    if (heads["format"] != FORMAT).any():
        raise _corrupt(f"a state's format is not {FORMAT}")
    events, tiles = heads["events"].astype(np.int64), heads["tiles"].astype(np.int64)
    middle = _HEAD.itemsize + events * plan.event.itemsize
    if (sizes != middle + tiles * plan.tile.itemsize).any():
        raise _corrupt("a state's length is not what its events and tiles add up to")
    views: list[memoryview] = list(map(memoryview, rows))  # type: ignore[arg-type]
    stamps = map(crc32, map(_view, views, repeat(_AFTER_STAMP)), repeat(crc32(plan.stamp)))
    if heads["stamp"].tolist() != list(stamps):
        raise _corrupt("a state's stamp is not that of its bytes")
    cuts = list(map(slice, repeat(_HEAD.itemsize), middle.tolist()))
    ends = list(map(slice, middle.tolist(), sizes.tolist()))
    return States(
        newest=_spread(there, heads["newest"], BEGINNING),
        horizon=_spread(there, heads["horizon"], BEGINNING),
        event_counts=_spread(there, events, 0),
        tile_counts=_spread(there, tiles, 0),
        events=_records(map(_view, views, cuts), plan.event),
        tiles=_records(map(_view, views, ends), plan.tile),
    )


def head(packed: bytes | None) -> bytes | None:
    """Give what tells a packed state from any other of its key; None for no state."""
    return None if packed is None else packed[:HEAD_BYTES]


def _cut(records: Records, counts: Integers) -> list[memoryview]:
    flat = memoryview(records.tobytes())
    ends = np.cumsum(counts) * records.dtype.itemsize
    starts = ends - counts * records.dtype.itemsize
    return list(map(_view, repeat(flat), map(slice, starts.tolist(), ends.tolist())))


def _records(pieces: Iterable[memoryview], dtype: np.dtype[np.void]) -> Records:
    return np.frombuffer(b"".join(pieces), dtype)


def _spread(there: NDArray[np.bool_], found: NDArray[np.generic], nothing: int) -> Integers:
    spread = np.full(len(there), nothing, np.int64)
    spread[there] = found
    return spread


def _corrupt(what: str) -> CorruptData:
    return CorruptData(
        f"{what}: it was not written with this table's columns; run `featurestore rebuild-online`"
    )
