"""Whether values are stored as the same bits, without packing a row."""

import polars as pl

_AS_INTEGER: dict[pl.DataType, type[pl.UInt32] | type[pl.UInt64]] = {
    pl.Float32(): pl.UInt32,
    pl.Float64(): pl.UInt64,
}


def same_bits(left: pl.Series, right: pl.Series) -> pl.Series:
    """Say of each row whether two columns of one dtype have the same bits in a stored row.

    Nulls are the same as nulls. -0.0 differs from 0.0, and a NaN is the same as a NaN of the same
    payload; that holds inside lists and arrays too.
    """
    if isinstance(left.dtype, pl.Array | pl.List):
        return _same_lists(_listed(left), _listed(right))
    return _integers(left).eq_missing(_integers(right))


def _integers(column: pl.Series) -> pl.Series:
    kind = _AS_INTEGER.get(column.dtype)
    return column if kind is None else column.reinterpret(dtype=kind)


def _listed(column: pl.Series) -> pl.Series:
    return column.arr.to_list() if isinstance(column.dtype, pl.Array) else column


def _same_lists(left: pl.Series, right: pl.Series) -> pl.Series:
    lengths = left.list.len()
    same = lengths.eq_missing(right.list.len())
    filled = same & (lengths > 0).fill_null(value=False)
    elements = same_bits(left.filter(filled).explode(), right.filter(filled).explode())
    if elements.all():
        return same
    owners = (
        filled.arg_true()
        .to_frame("row")
        .select(pl.col("row").repeat_by(lengths.filter(filled)).explode())
    )
    return same.scatter(owners.to_series().filter(~elements), values=False)
