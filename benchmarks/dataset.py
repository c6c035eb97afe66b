"""The synthetic data of the benchmarks, the same bytes for every side.

Rows of `readings` have an Int64 key, a moment (`happened`, UTC microseconds, no two alike) and
Float32 features without nulls; files are in the order of time, as logs are. An entity row has a
number (`row`), a key and an `event_timestamp` in the same span, so that a few come before their
key's first reading.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from report import Unequal

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=90)
END = START + SPAN
KEY, MOMENT, EVENT, ROW = "key", "happened", "event_timestamp", "row"
READINGS, SPINE = "readings.parquet", "spine.parquet"
_SEED = 20130101


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much data: source rows, keys among them, features of each, and entity rows."""

    rows: int
    keys: int
    features: int = 50
    spine: int = 0


def names(features: int) -> list[str]:
    """Give the features' names."""
    return [f"f{number:03d}" for number in range(features)]


def write_readings(folder: Path, size: Size) -> pl.DataFrame:
    """Write the source file; every key has a row if there are rows enough. Gives the frame."""
    random = np.random.default_rng(_SEED)
    keys = random.permutation(np.arange(size.rows, dtype=np.int64) % size.keys)
    step = SPAN // size.rows
    values = random.standard_normal((size.features, size.rows), dtype=np.float32)
    frame = pl.DataFrame({KEY: keys}).with_columns(
        _moments(np.arange(1, size.rows + 1) * (step // timedelta(microseconds=1)), MOMENT),
        *(pl.Series(n, v) for n, v in zip(names(size.features), values, strict=True)),
    )
    frame.write_parquet(folder / READINGS)
    return frame


def write_spine(folder: Path, size: Size) -> None:
    """Write the entity rows."""
    random = np.random.default_rng(_SEED + 1)
    span = SPAN // timedelta(microseconds=1)
    pl.DataFrame(
        {ROW: np.arange(size.spine), KEY: random.integers(0, size.keys, size.spine)}
    ).with_columns(_moments(random.integers(0, span, size.spine), EVENT)).write_parquet(
        folder / SPINE
    )


def latest(readings: pl.DataFrame) -> pl.DataFrame:
    """Give each key's newest row, by key."""
    return readings.sort(KEY, MOMENT).unique(KEY, keep="last", maintain_order=True)


def _moments(offsets: np.typing.NDArray[np.int64], name: str) -> pl.Series:
    first = np.int64(START.timestamp()) * 1_000_000
    return pl.Series(name, first + offsets).cast(pl.Datetime("us", "UTC"))


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
