"""The wire's laws, over random columns of every dtype."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.proto.v1 import values_pb2
from featurestore.serving.message import twin, wire
from tests.columns import DTYPES, bits, columns


def _through(grid: wire.Grid) -> wire.Grid:
    raw = wire.message_of(grid).SerializeToString()
    return wire.read(
        twin.Values.FromString(raw), columns=grid.columns, rows=grid.rows, path="values"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_columns_cross_the_wire_bit_for_bit(dtype: str, data: st.DataObject) -> None:
    """Every dtype, with nulls, NaN payloads and empty values, comes out as it went in."""
    rows = data.draw(st.integers(1, 9))
    several = [data.draw(columns(dtype, rows)) for _ in range(data.draw(st.integers(1, 3)))]
    found = _through(wire.grid_of(several, dtype))
    assert found.dtype == dtype
    for number, column in enumerate(several):
        assert bits(wire.series_of(found, number, "x")) == bits(column)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_twin_and_public_message_have_equal_bytes(dtype: str, data: st.DataObject) -> None:
    """A public message parses a twin's bytes with nothing unknown, and writes the same bytes."""
    column = data.draw(columns(dtype, data.draw(st.integers(1, 9))))
    raw = wire.message_of(wire.grid_of([column], dtype)).SerializeToString(deterministic=True)
    public = values_pb2.Values.FromString(raw)
    assert public.SerializeToString(deterministic=True) == raw
    assert bits(_read_publicly(public, len(column), column.dtype)) == bits(column)


def _read_publicly(message: values_pb2.Values, rows: int, dtype: pl.DataType) -> pl.Series:
    """Read a column as a client in another language would: value by value, by the comments."""
    fields = ("bools", "int32s", "uint32s", "int64s", "floats", "doubles", "strings")
    kept = {name: getattr(message, name) for name in fields}
    (flat,) = [list(found) for found in kept.values() if found] or [[]]
    if message.element_validity:
        seen = np.unpackbits(
            np.frombuffer(message.element_validity, "u1"), bitorder="little", count=len(flat)
        )
        flat = [value if ok else None for value, ok in zip(flat, seen, strict=True)]
    if message.shape == values_pb2.SHAPE_LIST:
        ends = np.cumsum(message.lengths)
        rows_of = [flat[end - n : end] for end, n in zip(ends, message.lengths, strict=True)]
    elif message.shape == values_pb2.SHAPE_ARRAY:
        width = message.width
        rows_of = [flat[row * width : (row + 1) * width] for row in range(rows)]
    else:
        rows_of = flat
    if message.nullable:
        there = np.unpackbits(np.frombuffer(message.validity, "u1"), bitorder="little", count=rows)
        rows_of = [value if ok else None for value, ok in zip(rows_of, there, strict=True)]
    if dtype.is_temporal():
        return pl.Series("x", rows_of, pl.Int64).cast(dtype)
    return pl.Series("x", rows_of, dtype)
