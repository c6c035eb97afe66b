"""What one entity's window state is made of: events, and what is kept of older ones.

Recent events are kept with all that tells versions of one event apart. Of older ones the time and
the inputs stay (bare events), or they are folded into tiles, whichever is smaller: a tile holds
what can be merged of each input, and only what some window of the view needs. All are NumPy
records, little-endian and packed, so that they are computed with and stored as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.model.documents import Feature, Function, View, Window
from featurestore.model.fingerprint import digest
from featurestore.model.schema import Column
from featurestore.model.time import BEGINNING
from featurestore.model.windows import input_name, stored_columns, windows

Part = Literal["sum", "squares", "min", "max", "first", "last"]
Integers = NDArray[np.int64]
Records = NDArray[np.void]

PICKS: tuple[Part, ...] = ("min", "max", "first", "last")
"""The parts of a tile that are one of its inputs."""

_NEEDS: Mapping[Function, tuple[Part, ...]] = {
    "count": (),
    "sum": ("sum",),
    "mean": ("sum",),
    "var": ("sum", "squares"),
    "std": ("sum", "squares"),
    "min": ("min",),
    "max": ("max",),
    "first": ("first",),
    "last": ("last",),
}
_STORED = {"bool": "u1", "date": "<i4", "datetime": "<i8"}
_WHOLE = frozenset({"bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"})
"""The dtypes whose sums no tile's number of events takes beyond int64."""

_IDENTITY = (
    ("created", "<i8"),
    ("revision", "<u4"),
    ("number", "<i8"),
    ("known", "<i8"),
    ("arrived", "<i8"),
)
NO_CREATED = BEGINNING - 1
"""Stands for a created time that is null: it is below every moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The part of one kind and dtype of all tiles, one column for each of these inputs."""

    part: Part
    dtype: str
    inputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the field."""
        return f"{self.part}:{self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """How a view's states are laid out; inputs go by their place in `columns`.

    `ints` are the inputs whose sums are int64, `sums` those whose sums are exact pairs of float64,
    `squares` those whose squares are summed too. `values` are the inputs of each dtype, `spans` the
    (length, every) of the windows, `places` each feature's input. `versions` says that rows of one
    number are versions of one event. `stamp` tells layouts apart. The record of an `event` ends in
    that of a `bare` one.
    """

    columns: tuple[Column, ...]
    spans: tuple[tuple[int, int], ...]
    places: Mapping[str, int]
    versions: bool
    ints: tuple[int, ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    picks: tuple[Pick, ...]
    values: Mapping[str, tuple[int, ...]]
    event: np.dtype[np.void] = field(init=False, repr=False)
    bare: np.dtype[np.void] = field(init=False, repr=False)
    tile: np.dtype[np.void] = field(init=False, repr=False)
    stamp: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the records."""
        held = [(name, stored(name), (len(of),)) for name, of in self.values.items()]
        valid = ("valid", "u1", ((len(self.columns) + 7) // 8,))
        exact = (len(self.sums) + len(self.squares),)
        picks = [(one.name, stored(one.dtype), (len(one.inputs),)) for one in self.picks]
        bare = [("event", "<i8"), valid, *held]
        tile = np.dtype(
            [
                ("start", "<i8"),
                ("n", "<u4", (len(self.columns),)),
                ("ints", "<i8", (len(self.ints),)),
                ("high", "<f8", exact),
                ("low", "<f8", exact),
                *picks,
            ]
        )
        object.__setattr__(self, "event", np.dtype([*_IDENTITY, *bare]))
        object.__setattr__(self, "bare", np.dtype(bare))
        object.__setattr__(self, "tile", tile)
        inputs = tuple((column.name, column.dtype) for column in self.columns)
        parts = tuple((one.name, one.inputs) for one in self.picks)
        made = digest("state", inputs, self.ints, self.sums, self.squares, parts)
        object.__setattr__(self, "stamp", made.encode())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class States:
    """The states of some entities, side by side; an entity of which nothing is kept has none.

    `newest` is the newest known-at that a state knows of, `horizon` the moment from which on events
    are whole; both UTC microseconds, the beginning where there is no state. `events` are those of
    the first entity, then of the second, …, `event_counts` how many each has: in ascending (event,
    created, revision, number). `bare` and `tiles` likewise, in ascending time; no entity has both.
    `folded` are the numbers of the latest of the events that are bare or in tiles, where a number
    has versions.
    """

    newest: Integers
    horizon: Integers
    event_counts: Integers
    bare_counts: Integers
    tile_counts: Integers
    folded_counts: Integers
    events: Records = field(repr=False)
    bare: Records = field(repr=False)
    tiles: Records = field(repr=False)
    folded: Integers = field(repr=False)

    @classmethod
    def none(cls, plan: Plan, owners: int) -> Self:
        """Give entities that have no state."""
        beginning = np.full(owners, BEGINNING, np.int64)
        counts = np.zeros(owners, np.int64)
        return cls(
            newest=beginning,
            horizon=beginning,
            event_counts=counts,
            bare_counts=counts,
            tile_counts=counts,
            folded_counts=counts,
            events=np.empty(0, plan.event),
            bare=np.empty(0, plan.bare),
            tiles=np.empty(0, plan.tile),
            folded=np.empty(0, np.int64),
        )

    def __len__(self) -> int:
        """Give the number of entities."""
        return len(self.newest)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each entity has a state."""
        present: NDArray[np.bool_] = (self.event_counts + self.bare_counts + self.tile_counts) > 0
        return present


def plan_of(view: View) -> Plan:
    """Lay out the states of a view that has window features."""
    needs: dict[str, set[Part]] = {}
    for feature, window in _windows(view):
        needs.setdefault(input_name(feature), set()).update(_NEEDS[window.function])
    columns = tuple(column for column in stored_columns(view) if column.name in needs)
    at = {column.name: place for place, column in enumerate(columns)}

    def having(part: Part, dtypes: Sequence[str]) -> tuple[int, ...]:
        return tuple(at[c.name] for c in columns if part in needs[c.name] and c.dtype in dtypes)

    dtypes = tuple(dict.fromkeys(column.dtype for column in columns))
    picks = (Pick(part=p, dtype=d, inputs=having(p, (d,))) for p in PICKS for d in dtypes)
    return Plan(
        columns=columns,
        spans=tuple(sorted({(one.length, one.every) for _, one in _windows(view)})),
        places={one.name: at[input_name(one)] for one, _ in _windows(view)},
        versions=view.event_id is not None,
        ints=having("sum", [name for name in dtypes if name in _WHOLE]),
        sums=having("sum", [name for name in dtypes if name not in _WHOLE]),
        squares=having("squares", dtypes),
        picks=tuple(one for one in picks if one.inputs),
        values={d: tuple(at[c.name] for c in columns if c.dtype == d) for d in dtypes},
    )


def stored(dtype: str) -> str:
    """Give the NumPy dtype that inputs of a dtype are stored in."""
    return np.dtype(_STORED.get(dtype, dtype)).newbyteorder("<").str


def _windows(view: View) -> list[tuple[Feature, Window]]:
    return [(one, one.window) for one in windows(view) if one.window is not None]
