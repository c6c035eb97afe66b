"""The laws of request data's dtypes."""

from datetime import UTC, datetime

import polars as pl
import pytest

from featurestore.engine.request import cast_request
from featurestore.errors import InvalidRequest
from featurestore.model.schema import parse_dtype

MOMENT = datetime(2013, 7, 1, tzinfo=UTC)

FITS = [
    (pl.Series([1, None], dtype=pl.Int64), "float64", [1.0, None]),
    (pl.Series([1.0, None]), "int8", [1, None]),
    (pl.Series([0.1]), "float32", [pl.Series([0.1], dtype=pl.Float32)[0]]),
    (pl.Series([2**31]), "uint32", [2**31]),
    (pl.Series(["a"], dtype=pl.Categorical), "string", ["a"]),
    (pl.Series([None, None]), "date", [None, None]),
    (pl.Series([MOMENT]).dt.cast_time_unit("ms"), "datetime", [MOMENT]),
    (pl.Series([MOMENT]).dt.convert_time_zone("Asia/Tokyo"), "datetime", [MOMENT]),
    (pl.Series([MOMENT.replace(tzinfo=None)]), "datetime", [MOMENT]),
    (pl.Series([[1, None], []], dtype=pl.List(pl.Int64)), "list[float64]", [[1.0, None], []]),
    (pl.Series([[1, 2]], dtype=pl.List(pl.Int64)), "array[int16,2]", [[1, 2]]),
]


@pytest.mark.parametrize(("column", "dtype", "expected"), FITS)
def test_a_value_that_fits_converts(column: pl.Series, dtype: str, expected: list[object]) -> None:
    """Numbers, times and categories convert where no value changes."""
    found = cast_request(column.alias("x"), dtype, path="request_data.x")
    assert found.dtype == parse_dtype(dtype)
    assert found.to_list() == expected
    assert found.name == "x"


MISFITS = [
    (pl.Series([1.5]), "int64"),
    (pl.Series([float("nan")]), "int64"),
    (pl.Series([300]), "int8"),
    (pl.Series([-1]), "uint32"),
    (pl.Series([2**53 + 1]), "float64"),
    (pl.Series(["1"]), "int64"),
    (pl.Series([1]), "string"),
    (pl.Series([True]), "int64"),
    (pl.Series([1]), "bool"),
    (pl.Series([MOMENT]), "date"),
    (pl.Series([1]), "list[int64]"),
    (pl.Series([[1, 2, 3]]), "array[int64,2]"),
    (pl.Series([[1.5]]), "list[int64]"),
]


@pytest.mark.parametrize(("column", "dtype"), MISFITS)
def test_a_value_that_does_not_fit_is_refused_by_path(column: pl.Series, dtype: str) -> None:
    """Nothing is truncated, wrapped or parsed; the message names the path, not the value."""
    with pytest.raises(InvalidRequest, match=r"^request_data\.x: "):
        cast_request(column, dtype, path="request_data.x")
