"""The synthetic data of the benchmarks, the same bytes for every side.

Rows of a source file have an Int64 key, a moment (`happened`, UTC microseconds, no two alike) and
Float32 features without nulls; files are in the order of time, as logs are. Each view has a file of
its own, named after it, and features that no other has. An entity row has a number (`row`), a key
and an `event_timestamp` in the same span, so that a few come before their key's first reading and
some after its last one expired. Entity rows' keys are spread as the source's are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from columns import EVENT, KEY, MOMENT, ROW, SPAN, SPINE, START, views
from numpy.typing import NDArray
from report import Unequal

GROUP_ROWS = 1 << 17
"""Rows of a row group: what a reader with several threads shares out."""
_SEED = 20130101
_CHUNK = 1 << 20
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much data: rows of each view's file, keys among them, features of each, entity rows.

    A `hot` share of the rows, and of the entity rows, belongs to one key.
    """

    rows: int
    keys: int
    features: int = 50
    spine: int = 0
    views: int = 1
    hot: float = 0.0

    def plain(self) -> dict[str, int]:
        """Give the counts, as a report keeps them."""
        counts = ("rows", "keys", "features", "spine", "views")
        return {name: getattr(self, name) for name in counts}

    def __str__(self) -> str:
        views = f"{self.views} x " if self.views > 1 else ""
        return (
            f"{self.spine:,} entity rows x {views}({self.rows:,} rows x {self.features} float32, "
            f"{self.keys:,} keys)"
        )


def write_readings(folder: Path, size: Size) -> None:
    """Write the source files; every key has a row if there are rows enough.

    Rows are made and written a chunk at a time: no file is ever whole in memory.
    """
    for number, (view, features) in enumerate(views(size.features, size.views).items()):
        random = np.random.default_rng(_SEED + number)
        schema = pa.schema(
            [(KEY, pa.int64()), (MOMENT, pa.timestamp("us", "UTC"))]
            + [(name, pa.float32()) for name in features]
        )
        with pq.ParquetWriter(folder / f"{view}.parquet", schema, use_dictionary=False) as file:
            for rows in _chunks(size.rows):
                moments = _micros() + (rows + 1) * (SPAN // size.rows // _MICROSECOND)
                values = random.standard_normal((size.features, len(rows)), dtype=np.float32)
                columns = [_keys(random, rows, size), moments, *values]
                chunk = pa.table([pa.array(one) for one in columns], names=schema.names)
                file.write_table(chunk.cast(schema), row_group_size=GROUP_ROWS)


def write_spine(folder: Path, size: Size) -> None:
    """Write the entity rows."""
    random = np.random.default_rng(_SEED - 1)
    keys = random.integers(0, size.keys, size.spine)
    if size.hot:
        keys[random.random(size.spine) < size.hot] = 0
    moments = _micros() + random.integers(0, SPAN // _MICROSECOND, size.spine)
    pl.DataFrame({ROW: np.arange(size.spine), KEY: keys, EVENT: moments}).with_columns(
        pl.col(EVENT).cast(pl.Datetime("us", "UTC"))
    ).write_parquet(folder / SPINE, row_group_size=GROUP_ROWS)


def latest(readings: pl.DataFrame) -> pl.DataFrame:
    """Give each key's newest row, by key."""
    return readings.sort(KEY, MOMENT).unique(KEY, keep="last", maintain_order=True)


def same_bits(left: pl.DataFrame, right: pl.DataFrame, what: str) -> None:
    """Compare two frames value for value; floats by their bits.

    Raises:
        Unequal: they differ; the column and the number of rows that differ are named.
    """
    if left.schema != right.schema or left.height != right.height:
        raise Unequal(f"{what}: {left.shape} {left.schema} against {right.shape} {right.schema}")
    for name in left.columns:
        one, other = (_bits(frame[name]) for frame in (left, right))
        wrong = int(one.ne_missing(other).sum())
        if wrong:
            raise Unequal(f"{what}: column {name} differs in {wrong:,} of {left.height:,} rows")


def _bits(column: pl.Series) -> pl.Series:
    return column.reinterpret(signed=True) if column.dtype.is_float() else column


def _micros() -> np.int64:
    return np.int64(START.timestamp()) * 1_000_000


def _chunks(rows: int) -> Iterator[NDArray[np.int64]]:
    """Give the rows' numbers, a chunk at a time."""
    for first in range(0, rows, _CHUNK):
        yield np.arange(first, min(first + _CHUNK, rows), dtype=np.int64)


def _keys(random: np.random.Generator, rows: NDArray[np.int64], size: Size) -> NDArray[np.int64]:
    keys = random.permutation(rows % size.keys)
    if size.hot:
        keys[random.random(len(rows)) < size.hot] = 0
    return keys
