"""Every dtype the store keeps has one name, and no other text is a name."""

import polars as pl
import pytest

from featurestore.model.schema import NUMBERS, SCALARS, Column, dtype_name, parse_dtype

NESTED = [f"list[{n}]" for n in sorted(NUMBERS)] + [f"array[{n},3]" for n in sorted(NUMBERS)]


@pytest.mark.parametrize("name", [*SCALARS, *NESTED, "array[int8,0]", "array[float32,1536]"])
def test_names_and_dtypes_are_each_others_inverse(name):
    """A name gives a dtype that gives the name."""
    assert dtype_name(parse_dtype(name)) == name
    assert Column(name="a", dtype=name).polars == parse_dtype(name)


REFUSED = {
    "naive times": pl.Datetime("us"),
    "nanoseconds": pl.Datetime("ns", "UTC"),
    "another zone": pl.Datetime("us", "Europe/Berlin"),
    "durations": pl.Duration("us"),
    "uint64": pl.UInt64(),
    "bytes": pl.Binary(),
    "structs": pl.Struct({"a": pl.Int8}),
    "categories": pl.Categorical(),
    "decimals": pl.Decimal(10, 2),
    "nulls": pl.Null(),
    "lists of strings": pl.List(pl.String()),
    "lists of lists": pl.List(pl.List(pl.Int8())),
    "arrays of truths": pl.Array(pl.Boolean(), 2),
    "matrices": pl.Array(pl.Int8(), (2, 2)),
}


@pytest.mark.parametrize("dtype", REFUSED.values(), ids=REFUSED.keys())
def test_other_dtypes_have_no_name(dtype):
    """What the store does not keep is refused, and what it keeps is said."""
    with pytest.raises(ValueError, match=r"not supported; supported are|hold numbers, not"):
        dtype_name(dtype)


BAD_NAMES = [
    "",
    "int128",
    "INT64",
    "list",
    "list[]",
    "list[string]",
    "list[int64",
    "list[int64]]",
    "list[int64,3]",
    "list[list[int64]]",
    "array[int64]",
    "array[int64,]",
    "array[int64,-1]",
    "array[int64,03]",
    "array[int64,٣]",
    "array[int64,3",
    "array[bool,3]",
    "array[int64,3]\n",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_other_text_is_a_dtype(name):
    """A dtype has one spelling: near misses are refused."""
    with pytest.raises(ValueError, match="no dtype is called"):
        parse_dtype(name)
