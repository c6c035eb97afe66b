"""A block's columns for who asked: Polars in the exact dtypes, or masked NumPy arrays."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from featurestore.serving.message.wire import (
    ARRAY,
    ELEMENTS,
    LIST,
    Array,
    Grid,
    Mask,
    series_of,
    shape_of,
)

Masked = np.ma.MaskedArray[Any, Any]


def series(grid: Grid) -> list[pl.Series]:
    """Give the columns, nameless, as parts of one series."""
    valid = None if grid.valid is None else grid.valid.reshape(1, -1)
    one = replace(grid, columns=1, rows=grid.columns * grid.rows, valid=valid)
    whole = series_of(one, 0, "")
    return [whole.slice(number * grid.rows, grid.rows) for number in range(grid.columns)]


def arrays(grid: Grid) -> list[Masked]:
    """Give the columns as masked arrays of their own, which may be written to."""
    element, shape, width = shape_of(grid.dtype)
    mask = np.zeros((grid.columns, grid.rows), np.bool_) if grid.valid is None else ~grid.valid
    cell = (width,) if shape == ARRAY else ()
    values = _native(grid.elements, element)
    if shape == LIST:
        values = _split(values, grid)
    values = values.reshape(grid.columns, grid.rows, *cell)
    if cell:
        hidden = np.zeros(values.shape, np.bool_) if grid.inner is None else ~grid.inner
        mask = hidden.reshape(values.shape) | mask[:, :, None]
    if values.dtype == object:
        values[mask] = None
    return [_masked(*one) for one in zip(values, mask, strict=True)]


def _native(elements: Array | list[str], element: str) -> Array:
    if element == "date":
        return np.array(elements, np.int64).view("<M8[D]")
    copied = np.array(elements, ELEMENTS[element].here)
    return copied.view("<M8[us]") if element == "datetime" else copied


def _split(values: Array, grid: Grid) -> Array:
    """Give lists as objects: arrays, masked if any element of the block is null."""
    lengths = np.zeros(0, np.int64) if grid.lengths is None else grid.lengths.astype(np.int64)
    whole = values if grid.inner is None else _masked(values, ~grid.inner)
    parts = np.split(whole, np.cumsum(lengths)[:-1])
    return np.fromiter(parts, dtype=object, count=lengths.size)


def _masked(values: Array, mask: Mask) -> Masked:
    return np.ma.MaskedArray(values, mask=mask)
