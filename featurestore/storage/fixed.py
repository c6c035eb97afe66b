"""The fixed-width part of a packed row: columns of one dtype stand side by side in a block."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.model.schema import Column

_HEADER = [
    ("format", "u1"),
    ("event", ">u8"),
    ("created", ">u8"),
    ("revision", ">u4"),
]
_NUMBER, _KIND = ("number", ">u8"), ("kind", "u1")
_STORED = {"bool": "u1", "date": "<i4", "datetime": "<i8"}

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The fixed-width columns of one dtype; `start` is the place of the first in the bitmap."""

    dtype: str
    names: tuple[str, ...]
    start: int

    @property
    def inner(self) -> str:
        """The dtype of one number: of an array's elements, else the dtype itself."""
        return self.dtype.removeprefix("array[").partition(",")[0]

    @property
    def width(self) -> int | None:
        """The number of elements of an array; None for scalars."""
        _, comma, width = self.dtype.removesuffix("]").partition(",")
        return int(width) if comma else None

    def fields(self, number: int) -> list[tuple[str, str, tuple[int, ...]]]:
        """Give the block's fields in a NumPy structured dtype: the values, arrays' bitmaps."""
        stored = np.dtype(_STORED.get(self.inner, self.inner)).newbyteorder("<").str
        count = len(self.names)
        if self.width is None:
            return [(f"values{number}", stored, (count,))]
        bits = (self.width + 7) // 8
        return [
            (f"values{number}", stored, (count, self.width)),
            (f"inner{number}", "u1", (count, bits)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The decoded columns of one fixed-width dtype, for whole-buffer copies.

    `values` has shape (rows, columns), for arrays (rows, columns, width); dates are days, datetimes
    microseconds, and null slots are zero. `valid` has shape (rows, columns); `inner_valid`, for
    arrays only, the shape of `values`.
    """

    dtype: str
    names: tuple[str, ...]
    values: NDArray[np.generic]
    valid: Bools
    inner_valid: Bools | None


def blocks_of(columns: Sequence[Column]) -> tuple[Block, ...]:
    """Group columns, sorted by dtype, into blocks."""
    dtypes = [column.dtype for column in columns]
    return tuple(
        Block(
            dtype=dtype,
            names=tuple(column.name for column in columns if column.dtype == dtype),
            start=dtypes.index(dtype),
        )
        for dtype in dict.fromkeys(dtypes)
    )


def record(
    blocks: Sequence[Block], columns: int, variable: int, *, numbered: bool
) -> np.dtype[np.void]:
    """Give the NumPy dtype of all that stands before the variable bytes of a row."""
    header = [*_HEADER, _NUMBER, _KIND] if numbered else [*_HEADER, _KIND]
    fields = [found for number, block in enumerate(blocks) for found in block.fields(number)]
    bitmap = ("valid", "u1", ((columns + 7) // 8,))
    return np.dtype([*header, bitmap, *fields, ("lengths", "<u4", (variable,))])


def store(heads: NDArray[np.void], number: int, at: int, block: Block, series: pl.Series) -> None:
    """Write a column into its slots of block `number`; null slots become zero."""
    if block.width is None:
        heads[f"values{number}"][:, at] = _numbers(series)
    elif block.width and len(series):
        zeros = pl.Series([[0] * block.width], dtype=series.dtype)
        filled = pl.select(pl.when(series.is_null()).then(zeros).otherwise(series)).to_series()
        flat = filled.explode()
        shape = (len(series), block.width)
        inner = flat.is_not_null().to_numpy().reshape(shape) & validity(series)[:, None]
        heads[f"values{number}"][:, at] = _numbers(flat).reshape(shape)
        heads[f"inner{number}"][:, at] = np.packbits(inner, axis=1, bitorder="little")


def cells_of(
    heads: NDArray[np.void], number: int, block: Block
) -> tuple[NDArray[np.generic], Bools | None]:
    """Give the values of block `number` of a batch of rows, and which of arrays' elements count."""
    values = heads[f"values{number}"]
    if block.dtype.endswith("]"):
        bits = heads[f"inner{number}"]
        inner = np.unpackbits(bits, axis=2, count=block.width, bitorder="little").view(np.bool_)
        return values.view(np.bool_) if block.inner == "bool" else values, inner
    return values.view(np.bool_) if block.dtype == "bool" else values, None


def load(heads: NDArray[np.void], number: int, block: Block, valid: Bools) -> Group:
    """Read block `number` of a batch of rows, without copying its values."""
    values, inner = cells_of(heads, number, block)
    shown = valid[:, block.start : block.start + len(block.names)]
    return Group(
        dtype=block.dtype, names=block.names, values=values, valid=shown, inner_valid=inner
    )


def restore(column: Column, group: Group) -> pl.Series:
    """Give a column of a group in its exact dtype, null where it has no value."""
    at = group.names.index(column.name)
    values = np.ascontiguousarray(group.values[:, at])
    valid = group.valid[:, at]
    if group.inner_valid is None:
        series = pl.Series(column.name, values)
        exact = series if series.dtype == column.polars else series.cast(column.polars)
        return masked(exact, valid)
    if not values.size:
        empty = pl.Series(column.name, [[]] if len(values) else [], dtype=column.polars)
        full = empty.new_from_index(0, len(values)) if len(values) else empty
        return masked(full, valid)
    inner = np.ascontiguousarray(group.inner_valid[:, at]).reshape(-1)
    flat = masked(pl.Series(column.name, values.reshape(-1)), inner)
    return masked(flat.reshape(values.shape), valid)


def masked(series: pl.Series, valid: Bools) -> pl.Series:
    """Make a series null wherever it is not valid, and keep the bits of the rest."""
    if valid.all():
        return series
    # A tenth of the time of `when`, which a lookup of one entity would pay per column.
    return series.zip_with(pl.Series(valid), pl.Series([None], dtype=series.dtype))


def validity(series: pl.Series) -> Bools:
    """Give where a series is not null."""
    if series.null_count():
        return series.is_not_null().to_numpy()
    return np.ones(len(series), np.bool_)


def _numbers(series: pl.Series) -> NDArray[np.generic]:
    # Of every column it would take ten times as long as copying some thousand values.
    values = series.to_physical() if series.dtype.is_temporal() else series
    if values.dtype == pl.Boolean:
        values = values.cast(pl.UInt8)
    filled = values.fill_null(strategy="zero") if values.null_count() else values
    return filled.to_numpy()
