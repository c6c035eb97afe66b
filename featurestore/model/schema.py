"""Columns and the dtypes a feature, a key or a request may have, each with one stable name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import polars as pl

SCALARS: Mapping[str, pl.DataType] = MappingProxyType(
    {
        "bool": pl.Boolean(),
        "int8": pl.Int8(),
        "int16": pl.Int16(),
        "int32": pl.Int32(),
        "int64": pl.Int64(),
        "uint8": pl.UInt8(),
        "uint16": pl.UInt16(),
        "uint32": pl.UInt32(),
        "float32": pl.Float32(),
        "float64": pl.Float64(),
        "string": pl.String(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us", "UTC"),
    }
)
NUMBERS = frozenset(SCALARS) - {"bool", "string", "date", "datetime"}
INTEGERS = frozenset(name for name in SCALARS if "int" in name)
KEYS = frozenset(SCALARS) - {"float32", "float64"}

_VARIABLE = 32
"""Bytes that a text or a list is taken to have."""
_WIDTHS: Mapping[pl.DataType, int] = MappingProxyType(
    {
        **dict.fromkeys((pl.Boolean(), pl.Int8(), pl.UInt8()), 1),
        **dict.fromkeys((pl.Int16(), pl.UInt16()), 2),
        **dict.fromkeys((pl.Int32(), pl.UInt32(), pl.Float32(), pl.Date()), 4),
    }
)

_NESTED = re.compile(r"(?:list\[(\w+)|array\[(\w+),(0|[1-9][0-9]*))\]", re.ASCII)
_NAME_OF = {dtype: name for name, dtype in SCALARS.items()}


def dtype_name(dtype: pl.DataType) -> str:
    """Give the stable name of a supported dtype: `int64`, `list[float32]`, `array[float32,8]`.

    Raises:
        ValueError: the dtype is not one the store keeps.
    """
    if isinstance(dtype, pl.Array) and dtype.shape == (dtype.size,):
        return f"array[{_number(dtype.inner)},{dtype.size}]"
    if isinstance(dtype, pl.List):
        return f"list[{_number(dtype.inner)}]"
    if dtype in _NAME_OF:
        return _NAME_OF[dtype]
    raise ValueError(
        f"dtype {dtype} is not supported; supported are {', '.join(SCALARS)}, "
        "and list[…] and array[…,width] of numbers"
    )


def _number(inner: object) -> str:
    name = _NAME_OF.get(inner, str(inner))  # type: ignore[call-overload]
    if name not in NUMBERS:
        raise ValueError(f"lists and arrays hold numbers, not {name}")
    return str(name)


def parse_dtype(name: str) -> pl.DataType:
    """Give the Polars dtype of a stable name; the inverse of `dtype_name`.

    Raises:
        ValueError: no supported dtype has this name.
    """
    if name in SCALARS:
        return SCALARS[name]
    nested = _NESTED.fullmatch(name)
    if nested is not None:
        of_list, of_array, width = nested.groups()
        if of_list in NUMBERS:
            return pl.List(SCALARS[of_list])
        if of_array in NUMBERS:
            return pl.Array(SCALARS[of_array], int(width))
    raise ValueError(f"no dtype is called {name!r}")


def value_bytes(dtype: pl.DataType) -> int:
    """Estimate the bytes that a value of a supported dtype takes in a frame."""
    if isinstance(dtype, pl.Array):
        return int(dtype.size) * value_bytes(SCALARS[_number(dtype.inner)])
    if isinstance(dtype, pl.List | pl.String):
        return _VARIABLE
    return _WIDTHS.get(dtype, 8)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Column:
    """A named column; `dtype` is a stable name (see `parse_dtype`)."""

    name: str
    dtype: str

    @property
    def polars(self) -> pl.DataType:
        """The column's Polars dtype."""
        return parse_dtype(self.dtype)
