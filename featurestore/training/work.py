"""One piece of a training set: what one part of a view answers to the entity rows of its bucket."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.errors import CorruptData
from featurestore.model.documents import View
from featurestore.model.schema import parse_dtype, value_bytes
from featurestore.model.windows import windows
from featurestore.training.join import look_up, timeline
from featurestore.training.moving import at_moments, events_of
from featurestore.training.spread import Asking, Order
from featurestore.training.tables import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One lookup in a part: the caller's columns of its keys, and the features asked for.

    Its entity rows are those from `start` to `stop` of an order.
    """

    lookup: int
    keys: tuple[str, ...]
    features: tuple[str, ...]
    order: Order
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A part of a view and the lookups it answers, `width` feature columns at a time."""

    part: Part
    view: View
    uses: tuple[Use, ...]
    as_known: bool
    width: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What a part gives one lookup: its features for a stretch of entity rows, in order."""

    lookup: int
    start: int
    features: pl.DataFrame
    withheld: int
    valued: int


def answer(asking: Asking, piece: Piece) -> tuple[Answer, ...]:
    """Answer the lookups of a piece: keys and times are read and joined first, then the features.

    Raises:
        CorruptData: the part gives a feature in another dtype than its version declares, or its
            files are not what was written.
    """
    line = timeline(piece.part.read, piece.view)
    rows = [_asked(asking, use) for use in piece.uses]
    found = [
        look_up(line, keys, time, ttl=piece.view.ttl, as_known=piece.as_known)
        for keys, time in rows
    ]
    moving = {one.name: one for one in windows(piece.view)}
    gathered: list[list[pl.Series]] = [[] for _ in piece.uses]
    if any(name in moving for use in piece.uses for name in use.features):
        events = events_of(line, piece.part.read, piece.view, as_known=piece.as_known)
        for n, (use, (keys, time)) in enumerate(zip(piece.uses, rows, strict=True)):
            asked = [moving[name] for name in use.features if name in moving]
            gathered[n] += at_moments(line, events, piece.part.read, asked, found[n], keys, time)
        del events
    del line, rows
    wanted = [name for name in wanted_of(piece.uses) if name not in moving]
    for start in range(0, len(wanted), piece.width):
        names = wanted[start : start + piece.width]
        rows_of = piece.part.read(names).rechunk()
        _check_dtypes(piece.view, rows_of)
        for n, (use, one) in enumerate(zip(piece.uses, found, strict=True)):
            mine = [name for name in names if name in use.features]
            gathered[n] += rows_of.select(pl.col(mine).gather(one.row)).get_columns()
    return tuple(
        Answer(
            lookup=use.lookup,
            start=use.start,
            features=pl.DataFrame(columns).select(use.features),
            withheld=one.withheld,
            valued=one.valued,
        )
        for columns, use, one in zip(gathered, piece.uses, found, strict=True)
    )


def _asked(asking: Asking, use: Use) -> tuple[list[pl.Series], pl.Series]:
    """Give the keys and the moments of a use's entity rows."""
    time, keys = asking.rows(use.order, use.start, use.stop)
    return [keys[name] for name in use.keys], time


def width_of(view: View, names: Iterable[str]) -> int:
    """Estimate the bytes that a row of some features takes."""
    dtypes = {feature.name: parse_dtype(feature.dtype) for feature in view.features}
    return sum(value_bytes(dtypes[name]) for name in names)


def size_of(piece: Piece) -> int:
    """Estimate the bytes that a piece holds at most while it is worked on."""
    keys = sum(value_bytes(key.polars) for key in piece.view.join_keys)
    wanted = wanted_of(piece.uses)
    groups = (wanted[at : at + piece.width] for at in range(0, len(wanted), piece.width))
    widest = max((width_of(piece.view, names) for names in groups), default=0)
    made = sum(_stretch(use) * (_ASKED + width_of(piece.view, use.features)) for use in piece.uses)
    moving = {one.name for one in windows(piece.view)}
    line = _LINE + 2 * keys + (_MOVING if moving.intersection(wanted) else 0)
    return piece.part.rows * max(line, 2 * widest) + made


def wanted_of(uses: Sequence[Use]) -> tuple[str, ...]:
    """Name the features that uses of a part ask for, each once."""
    return tuple(dict.fromkeys(name for use in uses for name in use.features))


def _stretch(use: Use) -> int:
    return use.stop - use.start


_LINE, _ASKED, _MOVING = 64, 64, 96
"""Bytes that numbers made on the way take, for each stored row and for each entity row; and of each
stored row, more with windows."""


def _check_dtypes(view: View, rows: pl.DataFrame) -> None:
    declared = {feature.name: feature.dtype for feature in view.features}
    for name, dtype in rows.schema.items():
        if dtype != parse_dtype(declared[name]):
            raise CorruptData(
                f"{view.name}.features.{name}: {view.version} declares {declared[name]} but "
                f"its table holds {dtype}; materialize the view again"
            )
