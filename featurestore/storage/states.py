"""Packed window states: what is kept of one entity as bytes, the same for the same content.

======= ===== ==================================================================
 field  bytes content
======= ===== ==================================================================
format  1     2
front   4     CRC-32 of the layout, the rest of the head and the numbers
newest  8     newest known-at that the state knows of, UTC microseconds
horizon 8     events from this moment on are whole, UTC microseconds
numbers 4     how many numbers of older events
stamp   4     CRC-32 of the records
events  4     how many events
bare    4     how many bare events
tiles   4     how many tiles
numbers …     8 bytes each
records …     the events, the bare events, the tiles, as `model.tiles` lays them out
======= ===== ==================================================================

Head and numbers are the front: all that a push reads of a state. Writers tell states of one key
apart by their heads. Numbers are little-endian. A state does not name its columns, but its layout
has a stamp too. What was pushed since is a state of its own, of nothing but events.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise, repeat
from operator import is_not
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import CorruptData
from featurestore.model.tiles import Integers, Plan, Records, States
from featurestore.model.time import BEGINNING

FORMAT = 2
_HEAD = np.dtype(
    [
        ("format", "u1"),
        ("front", "<u4"),
        ("newest", "<i8"),
        ("horizon", "<i8"),
        ("numbers", "<u4"),
        ("stamp", "<u4"),
        ("records", "<u4", (3,)),
    ]
)
HEAD_BYTES = _HEAD.itemsize
NUMBERS_AT = 21
"""Where a head says how many numbers follow it, each of eight bytes."""
_AFTER_FRONT = 5
_NUMBER = np.dtype("<i8")

_take: Callable[[bytes, slice], bytes] = bytes.__getitem__
_view: Callable[[memoryview, slice], memoryview] = memoryview.__getitem__


def encode_states(plan: Plan, states: States) -> list[bytes | None]:
    """Pack each entity's state; None for an entity that has none."""
    heads = np.zeros(len(states), _HEAD)
    heads["format"] = FORMAT
    heads["newest"], heads["horizon"] = states.newest, states.horizon
    heads["numbers"] = states.folded_counts
    heads["records"].T[:] = states.event_counts, states.bare_counts, states.tile_counts
    numbers = _cut(states.folded, states.folded_counts)
    events = _cut(states.events, states.event_counts)
    bare = _cut(states.bare, states.bare_counts)
    tiles = _cut(states.tiles, states.tile_counts)
    stamps: Iterable[int] = repeat(0)
    for records in (events, bare, tiles):
        stamps = map(crc32, records, stamps)
    heads["stamp"] = np.fromiter(stamps, np.uint32, len(states))
    one = np.ones(len(states), np.int64)
    afters = map(_view, _cut(heads, one), repeat(slice(_AFTER_FRONT, None)))
    fronts = map(crc32, numbers, map(crc32, afters, repeat(crc32(plan.stamp))))
    heads["front"] = np.fromiter(fronts, np.uint32, len(states))
    parts = zip(_cut(heads, one), numbers, events, bare, tiles, strict=True)
    packed = np.empty(len(states), object)
    packed[:] = list(map(b"".join, parts))
    packed[~states.present] = None
    found: list[bytes | None] = packed.tolist()
    return found


def decode_states(
    plan: Plan, packed: Sequence[bytes | None], *, only_fronts: bool = False
) -> States:
    """Unpack states; None stands for an entity that has none.

    Of `only_fronts` there are no records: they give the horizon and the numbers of older events.

    Raises:
        CorruptData: a state is not as it was written, or was written for other columns.
    """
    rows = [row for row in packed if row is not None]
    if not rows:
        return States.none(plan, len(packed))
    sizes = np.fromiter(map(len, rows), np.int64, len(rows))
    if (sizes < HEAD_BYTES).any():
        raise _corrupt(f"a state is shorter than the {HEAD_BYTES} bytes of its header")
    heads = np.frombuffer(b"".join(map(_take, rows, repeat(slice(HEAD_BYTES)))), _HEAD)
    if (heads["format"] != FORMAT).any():
        raise _corrupt(f"a state's format is not {FORMAT}")
    # What is told of a state, row by row: newest, horizon, and how many numbers and records.
    told = np.empty((6, len(rows)), np.int64)
    told[0], told[1], told[2] = heads["newest"], heads["horizon"], heads["numbers"]
    told[3:] = 0 if only_fronts else heads["records"].T
    dtypes = (_NUMBER, plan.event, plan.bare, plan.tile)
    ends = told[2:] * np.array([[dtype.itemsize] for dtype in dtypes])
    ends[0] += HEAD_BYTES
    ends.cumsum(axis=0, out=ends)
    if (ends[-1] != sizes).any():
        raise _corrupt("a state's length is not what its head says")
    views: list[memoryview] = list(map(memoryview, rows))  # type: ignore[arg-type]
    _check(plan, heads, views, ends[0], only_fronts=only_fronts)
    edges = pairwise([[HEAD_BYTES] * len(rows), *ends.tolist()])
    folded, events, bare, tiles = (
        _records(views, *edge, dtype) for dtype, edge in zip(dtypes, edges, strict=True)
    )
    newest, horizon, folded_counts, event_counts, bare_counts, tile_counts = _spread(packed, told)
    return States(
        newest=newest,
        horizon=horizon,
        event_counts=event_counts,
        bare_counts=bare_counts,
        tile_counts=tile_counts,
        folded_counts=folded_counts,
        events=events,
        bare=bare,
        tiles=tiles,
        folded=folded,
    )


def head(packed: bytes | None) -> bytes | None:
    """Give what tells a packed state from any other of its key; None for no state."""
    return None if packed is None else packed[:HEAD_BYTES]


def _check(
    plan: Plan,
    heads: Records,
    views: Sequence[memoryview],
    fronts: Integers,
    *,
    only_fronts: bool,
) -> None:
    """Compare the stamps of what was read with what they should be."""
    front = map(_view, views, map(slice, repeat(_AFTER_FRONT), fronts.tolist()))
    found = map(crc32, front, repeat(crc32(plan.stamp)))
    sound = heads["front"].tolist() == list(found)
    if sound and not only_fronts:
        rest = map(_view, views, map(slice, fronts.tolist(), repeat(None)))
        sound = heads["stamp"].tolist() == list(map(crc32, rest))
    if not sound:
        raise _corrupt("a state's stamp is not that of its bytes")


def _cut(records: Records | Integers, counts: Integers) -> list[memoryview]:
    flat = memoryview(records.tobytes())
    ends = np.cumsum(counts) * records.dtype.itemsize
    starts = ends - counts * records.dtype.itemsize
    return list(map(_view, repeat(flat), map(slice, starts.tolist(), ends.tolist())))


def _records(
    views: Sequence[memoryview], starts: list[int], ends: list[int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    if starts == ends:
        return np.empty(0, dtype)
    return np.frombuffer(b"".join(map(_view, views, map(slice, starts, ends))), dtype)


def _spread(packed: Sequence[bytes | None], told: Integers) -> Integers:
    """Give what is told of states to all entities: of one that has none, nothing."""
    if told.shape[1] == len(packed):
        return told
    spread = np.zeros((len(told), len(packed)), np.int64)
    spread[:2] = BEGINNING
    spread[:, np.fromiter(map(is_not, packed, repeat(None)), np.bool_, len(packed))] = told
    return spread


def _corrupt(what: str) -> CorruptData:
    return CorruptData(
        f"{what}: it was not written with this table's columns; run `featurestore rebuild-online`"
    )
