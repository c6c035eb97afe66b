"""Random columns of every dtype, and their bits, for tests that compare exactly."""

import struct
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import polars as pl
from hypothesis import strategies as st

from featurestore.model.schema import NUMBERS, SCALARS, parse_dtype

DTYPES = (
    *SCALARS,
    *(f"list[{name}]" for name in sorted(NUMBERS)),
    *(f"array[{name},3]" for name in sorted(NUMBERS)),
    "array[float64,0]",
)
_QUIET = struct.unpack("<d", (0x7FF8_0000_0000_BEEF).to_bytes(8, "little"))[0]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _integers(name: str) -> st.SearchStrategy[int]:
    limits = np.iinfo(name)
    return st.integers(int(limits.min), int(limits.max))


def _scalars(name: str) -> st.SearchStrategy[Any]:
    odd = st.sampled_from(["", "ä" * 5000, "\x00", "e\u0301", "}{*"])
    first, last = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - hypothesis wants naive
    strategies = {
        "bool": st.booleans(),
        "float64": st.floats() | st.sampled_from([_QUIET, -0.0, float("inf")]),
        "float32": st.floats(width=32),
        "string": odd | st.text(st.characters(exclude_categories=["Cs"])),
        "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
        "datetime": st.datetimes(first, last).map(lambda one: one.replace(tzinfo=UTC)),
    }
    return strategies[name] if name in strategies else _integers(name)


def values(dtype: str) -> st.SearchStrategy[Any]:
    """Give one value of a dtype, or None; lists and arrays have nulls inside too."""
    kind = parse_dtype(dtype)
    if isinstance(kind, pl.List | pl.Array):
        inner = st.none() | _scalars(dtype.partition("[")[2].rstrip("]").partition(",")[0])
        size = kind.size if isinstance(kind, pl.Array) else None
        return st.none() | st.lists(inner, min_size=size or 0, max_size=4 if size is None else size)
    return st.none() | _scalars(dtype)


def columns(dtype: str, rows: int, name: str = "x") -> st.SearchStrategy[pl.Series]:
    """Give a column of a dtype with so many rows."""
    return st.lists(values(dtype), min_size=rows, max_size=rows).map(
        lambda found: pl.Series(name, found, parse_dtype(dtype))
    )


def bits(column: pl.Series) -> tuple[Any, ...]:
    """Give what two columns must share to be equal bit for bit."""
    nulls = column.is_null().to_list()
    flat = column
    lengths = None
    if isinstance(column.dtype, pl.List | pl.Array):
        as_list = column.cast(pl.List(column.dtype.inner))
        lengths = as_list.list.len().to_list()
        flat = as_list.explode(empty_as_null=False, keep_nulls=False)
    inner = flat.is_null().to_list()
    filled = flat.drop_nulls()
    if filled.dtype == pl.String:
        return column.dtype, nulls, filled.to_list()
    return column.dtype, nulls, lengths, inner, filled.to_physical().to_numpy().tobytes()
