"""Columns compared without packing, against packed rows compared as bytes."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.model.schema import Column
from featurestore.storage.bits import same_bits
from featurestore.storage.rows import RowLayout
from tests.columns import DTYPES, columns


def packed(column, dtype):
    """Give the bytes that a stored row holds for each value."""
    layout = RowLayout(columns=(Column(name="x", dtype=dtype),))
    never = pl.repeat(0, len(column), dtype=pl.Int64, eager=True)
    return layout.encode(column.to_frame(), never, None, 0)


@st.composite
def pairs(draw):
    """Draw two columns of one dtype that share about half of their values."""
    dtype, rows = draw(st.sampled_from(DTYPES)), draw(st.integers(0, 12))
    one, two = (draw(columns(dtype, rows)) for _ in range(2))
    shared = pl.Series(
        draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), dtype=pl.Boolean
    )
    return dtype, one, one.zip_with(shared, two) if rows else two


@settings(max_examples=120, deadline=None)
@given(pairs())
def test_values_are_the_same_if_their_packed_bytes_are(drawn):
    """Every dtype: signed zeros, NaN payloads, nulls and empties inside and outside of lists."""
    dtype, one, two = drawn
    expected = [a == b for a, b in zip(packed(one, dtype), packed(two, dtype), strict=True)]
    assert same_bits(one, two).to_list() == expected


def test_floats_are_the_same_by_their_bits():
    """The cases in which a float's value says less, or more, than its bits."""
    quiet, other = (
        pl.Series([bits], dtype=pl.UInt32).reinterpret(dtype=pl.Float32)
        for bits in (0x7FC00000, 0x7FC00001)
    )
    zero, minus = pl.Series([0.0], dtype=pl.Float32), pl.Series([-0.0], dtype=pl.Float32)
    assert same_bits(quiet, quiet).all()
    assert not same_bits(quiet, other).any()
    assert not same_bits(zero, minus).any()
    lists = [one.implode() for one in (quiet, other, zero, minus)]
    assert [same_bits(one, lists[0]).item() for one in lists] == [True, False, False, False]
