"""The answers of all pieces, kept in memory or on disk, and put back into the caller's order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import polars.selectors as cs

from featurestore.model.query import Lookup
from featurestore.model.schema import Column
from featurestore.storage.parquet import writing_file
from featurestore.training.spread import Numbers
from featurestore.training.work import Answer

TO_PARQUET = "to_parquet.path"
"""Who has answers kept on disk, as errors name it."""

_AT_ONCE = 8
"""Columns that are put together at one time: all cores have work, and little is held twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Of `valued` entity rows with a value by event time, known-at withheld it from `withheld`."""

    withheld: int
    valued: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """The features of one lookup, stretch by stretch of the entity rows laid out by bucket.

    `segments` are all stretches, in order. Those that no part answers have nulls. With a `folder`
    the features wait there as files.
    """

    lookup: Lookup
    order: Numbers | None
    segments: tuple[tuple[int, int], ...]
    folder: Path | None
    pieces: dict[int, pl.DataFrame | Path] = field(default_factory=dict)
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        """Keep the answer to the stretch that begins at `answer.start`.

        Raises:
            Unavailable: the folder cannot hold it.
        """
        self.counts[answer.start] = (answer.withheld, answer.valued)
        if self.folder is None:
            self.pieces[answer.start] = answer.features
            return
        path = self.folder / f"{answer.lookup}-{answer.start}.arrow"
        # As lists: Polars cannot read arrays of no width back (2.1).
        with writing_file(path, TO_PARQUET):
            answer.features.with_columns(cs.array().arr.to_list()).write_ipc(path)
        self.pieces[answer.start] = path

    @property
    def counted(self) -> Counts:
        """How many entity rows had a value by event time alone, and how many another one."""
        return Counts(
            withheld=sum(withheld for withheld, _ in self.counts.values()),
            valued=sum(valued for _, valued in self.counts.values()),
        )

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Give the features of the entity rows `start` to `stop`, in their order."""
        cuts = [(first, *self._cut(first, last, start, stop)) for first, last in self.segments]
        slices = [self._slice(first, cut, end) for first, cut, end in cuts if end > cut]
        if self.order is None:
            return pl.concat([pl.DataFrame(schema=self._schema()), *slices])
        places = np.concatenate([self.order[:0], *(self.order[cut:end] for _, cut, end in cuts)])
        back = np.empty(stop - start, np.uint32)
        back[places - np.uint32(start)] = np.arange(stop - start, dtype=np.uint32)
        return pl.DataFrame(list(_gathered(slices, self._schema(), back)))

    def _cut(self, first: int, last: int, start: int, stop: int) -> tuple[int, int]:
        """Give where in a stretch the entity rows `start` to `stop` are."""
        if self.order is None:
            return max(first, min(start, last)), min(last, max(stop, first))
        within = np.searchsorted(self.order[first:last], (start, stop))
        return first + int(within[0]), first + int(within[1])

    def _slice(self, first: int, cut: int, end: int) -> pl.DataFrame:
        """Give the features from `cut` to `end` of the stretch that begins at `first`."""
        piece = self.pieces.get(first)
        if piece is None:
            return pl.DataFrame(schema=self._schema()).clear(end - cut)
        if isinstance(piece, Path):
            rows = pl.scan_ipc(piece, glob=False).slice(cut - first, end - cut).collect()
            return rows.cast(self._schema())
        return piece.slice(cut - first, end - cut)

    def _schema(self) -> pl.Schema:
        features = self.lookup.features
        return pl.Schema({f.name: Column(name=f.name, dtype=f.dtype).polars for f in features})


def _gathered(slices: list[pl.DataFrame], schema: pl.Schema, back: Numbers) -> Iterator[pl.Series]:
    """Put slices under each other in another order, some columns at a time.

    In one chunk each: gathering from many takes several times as long (measured, Polars 2.1).
    """
    order, names = pl.Series(back), schema.names()
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        empty = pl.DataFrame(schema={name: schema[name] for name in some})
        rows = pl.concat([empty, *(one.select(some) for one in slices)], rechunk=True)
        yield from rows.select(pl.all().gather(order)).get_columns()
