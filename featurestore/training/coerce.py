"""From a caller's columns to the dtypes the store declares, losing nothing without saying so."""

from collections.abc import Sequence

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.schema import Column
from featurestore.model.time import MOMENT, normal_dtype, show, to_moment
from featurestore.storage.keys import cast_keys
from featurestore.training.coverage import EARLIEST, LATEST

PATH = "entity_df"

_TIME_WAYS_OUT = {
    pl.Date: "cast it to a datetime: .cast(pl.Datetime('us'))",
    pl.String: "parse it: .str.to_datetime(…), or pandas.to_datetime",
}


def moments(column: pl.Series) -> pl.Series:
    """Give UTC microseconds of a datetime column: naive is UTC, other zones are converted.

    Nanoseconds are cut, never rounded into the future.

    Raises:
        InvalidRequest: the column is not a datetime, or leaves the calendar (years 1 to 9999).
    """
    if _is_empty(column):
        return _nulls(column, MOMENT)
    dtype = column.dtype
    if not isinstance(dtype, pl.Datetime):
        way_out = _TIME_WAYS_OUT.get(type(dtype), "convert it to a datetime")
        raise InvalidRequest(f"{PATH}.{column.name}: is {dtype}, not a datetime; {way_out}")
    return _to_moment(column, dtype)


def join_keys(frame: pl.DataFrame, columns: Sequence[Column]) -> tuple[pl.Series, ...]:
    """Give the key columns in their declared dtypes; nulls stay null.

    Raises:
        InvalidRequest: a column does not fit its declared dtype.
    """
    if not columns:
        return ()
    plain = pl.DataFrame([_normal(frame[column.name], column) for column in columns])
    return tuple(cast_keys(plain, tuple(columns), PATH).get_columns())


def _normal(series: pl.Series, column: Column) -> pl.Series:
    """Coerce as a source's columns are; a column without any value has whatever dtype is wanted."""
    if _is_empty(series):
        return _nulls(series, column.polars)
    if isinstance(series.dtype, pl.Datetime):
        return _to_moment(series, series.dtype)
    return series.cast(normal_dtype(series.dtype))


def _to_moment(series: pl.Series, dtype: pl.Datetime) -> pl.Series:
    physical = series.drop_nulls().to_physical()
    ends = (physical.min(), physical.max())
    if not all(EARLIEST <= _micros(int(end), dtype) <= LATEST for end in ends):  # type: ignore[arg-type]
        raise InvalidRequest(
            f"{PATH}.{series.name}: has times outside {show(EARLIEST)} to {show(LATEST)}; "
            "set them to null"
        )
    return series.to_frame().select(to_moment(pl.col(series.name), dtype, None)).to_series()


def _micros(value: int, dtype: pl.Datetime) -> int:
    match dtype.time_unit:
        case "ms":
            return value * 1000
        case "us":
            return value
        case "ns":
            return value // 1000


def _is_empty(series: pl.Series) -> bool:
    return series.null_count() == len(series)


def _nulls(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(series.name, [None], dtype=dtype).new_from_index(0, len(series))
