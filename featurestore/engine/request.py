"""One rule for the request data that on-demand features read, in training and in serving."""

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.schema import parse_dtype
from featurestore.model.time import to_moment


def cast_request(column: pl.Series, dtype: str, *, path: str) -> pl.Series:
    """Cast a column of request data to its declared dtype (a stable name), nulls kept.

    Numbers, and lists and arrays of them, convert where no value changes (a Float64 rounds to a
    declared Float32); datetimes of any unit and zone become UTC microseconds, naive ones are UTC;
    categories become strings. A column of nulls fits every dtype.

    Raises:
        InvalidRequest: the column is of another kind, or a value does not fit; none is shown.
    """
    declared = parse_dtype(dtype)
    if column.dtype == declared:
        return column
    if column.null_count() == len(column):
        return pl.Series(column.name, [None], declared).new_from_index(0, len(column))
    if isinstance(column.dtype, pl.Datetime) and dtype == "datetime":
        cast = to_moment(pl.col(column.name), column.dtype, None)
        return column.to_frame().select(cast).to_series()
    if isinstance(column.dtype, pl.Categorical | pl.Enum) and dtype == "string":
        return column.cast(declared)
    if not converts(column.dtype, declared):
        raise InvalidRequest(f"{path}: is {column.dtype}, but {dtype} is declared; cast it first")
    try:
        found = column.cast(declared, strict=True)
        back = found if rounds(column.dtype, declared) else found.cast(column.dtype, strict=True)
    except pl.exceptions.PolarsError:
        found = back = column.clear()
    if len(back) != len(column) or not (
        rounds(column.dtype, declared) or back.equals(column, null_equal=True)
    ):
        raise InvalidRequest(f"{path}: a value does not fit {dtype}; send {dtype} values")
    return found


def _element(dtype: pl.DataType) -> pl.DataType:
    return dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype  # type: ignore[return-value]


def converts(given: pl.DataType, declared: pl.DataType) -> bool:
    """Say whether values of one dtype may be taken for those of another, where none changes."""
    nested = isinstance(given, pl.List | pl.Array) == isinstance(declared, pl.List | pl.Array)
    element, target = _element(given), _element(declared)
    return nested and (element.is_numeric() or element == pl.Null) and target.is_numeric()


def rounds(given: pl.DataType, declared: pl.DataType) -> bool:
    """Say whether values may lose digits in another dtype, as Float64 ones do in a Float32."""
    return _element(given).is_float() and _element(declared) == pl.Float32
