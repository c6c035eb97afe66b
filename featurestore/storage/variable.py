"""The variable-width cells of a packed row: strings and lists of numbers.

A string is its UTF-8 bytes. A list is a flag byte and its elements, little-endian; with flag 1 a
byte per element follows, 1 where the element is valid. A null has no bytes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.errors import CorruptData
from featurestore.storage.fixed import Bools, masked, validity

Counts = NDArray[np.int64]
_take: Callable[[bytes, slice], bytes] = bytes.__getitem__


def is_variable(dtype: pl.DataType) -> bool:
    """Say whether values of a dtype differ in width."""
    return dtype == pl.String or isinstance(dtype, pl.List)


def cut(cells: Iterable[bytes], starts: Counts, ends: Counts) -> list[bytes]:
    """Give `cell[start:end]` of each cell."""
    return list(map(_take, cells, map(slice, starts.tolist(), ends.tolist())))


def pack(series: pl.Series) -> list[bytes]:
    """Give the bytes of each value of a string or list column."""
    if series.dtype == pl.String:
        filled = series.fill_null("") if series.null_count() else series
        return list(map(str.encode, filled.to_list()))
    counts = series.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = series.filter(pl.Series(counts > 0)).explode()
    inner = validity(flat)
    owners = np.repeat(np.arange(len(series)), counts)
    flagged = np.bincount(owners[~inner], minlength=len(series)) > 0
    numbers = flat.fill_null(strategy="zero").to_numpy()
    ends, place = np.cumsum(counts), np.arange(len(series))
    starts, size = ends - counts, numbers.dtype.itemsize
    flags = cut(repeat(flagged.tobytes()), place, place + validity(series))
    elements = cut(repeat(numbers.tobytes()), starts * size, ends * size)
    valid = cut(repeat(inner.tobytes()), starts, starts + counts * flagged)
    return list(map(b"".join, zip(flags, elements, valid, strict=True)))


def unpack(name: str, dtype: pl.DataType, cells: list[bytes], valid: Bools) -> pl.Series:
    """Give the column whose values have these bytes; invalid ones are null.

    Raises:
        CorruptData: a valid cell is not UTF-8, or not a list of this dtype.
    """
    if isinstance(dtype, pl.List):
        return _lists(name, dtype, cells, valid)
    check_texts(cells, name)
    texts = list(map(bytes.decode, cells))
    return masked(pl.Series(name, texts, dtype=pl.String), valid)


def check_texts(cells: Sequence[bytes], name: str) -> None:
    """Refuse stored strings that are none.

    Raises:
        CorruptData: one is not UTF-8.
    """
    try:
        # Between zeros no half of a sign can be made whole by what stands beside it.
        b"\0".join(cells).decode()
    except UnicodeDecodeError as error:
        raise CorruptData(
            f"{name}: a stored string is not UTF-8; run `featurestore rebuild-online`"
        ) from error


def _lists(name: str, dtype: pl.List, cells: list[bytes], valid: Bools) -> pl.Series:
    if not cells:
        return pl.Series(name, [], dtype=dtype)
    stored = pl.Series(dtype=dtype.inner).to_numpy().dtype
    widths = np.fromiter(map(len, cells), np.int64, len(cells))
    first = b"".join(map(_take, cells, repeat(slice(0, 1))))
    flags = np.zeros(len(cells), np.int64)
    flags[widths > 0] = np.frombuffer(first, np.uint8)
    each = stored.itemsize + flags
    counts = np.maximum(widths - 1, 0) // each
    whole = (widths == 1 + counts * each) | ~valid & (widths == 0)
    if (flags > 1).any() or not whole.all():
        raise CorruptData(
            f"{name}: a stored list is not of {dtype}; run `featurestore rebuild-online`"
        )
    middle = 1 + counts * stored.itemsize
    numbers = np.frombuffer(b"".join(cut(cells, np.ones_like(middle), middle)), stored)
    tails = b"".join(cut(cells, middle, np.where(flags == 1, widths, middle)))
    inner = np.ones(len(numbers), np.bool_)
    inner[np.repeat(flags == 1, counts)] = np.frombuffer(tails, np.bool_)
    flat = masked(pl.Series(name, numbers), inner)
    places = pl.DataFrame({"start": np.cumsum(counts) - counts, "count": counts})
    parts = pl.lit(flat.implode()).list.slice(pl.col("start"), pl.col("count"))
    return masked(places.select(parts.alias(name)).to_series(), valid)
