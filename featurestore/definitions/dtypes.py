"""Feast's types and the store's dtype names: the one table between the two."""

from collections.abc import Mapping
from types import MappingProxyType

from feast.types import (
    Array,
    Bool,
    FeastType,
    Float32,
    Float64,
    Int32,
    Int64,
    Invalid,
    PrimitiveFeastType,
    String,
    UnixTimestamp,
    from_value_type,
)
from feast.value_type import ValueType

from featurestore.model.schema import NUMBERS

_NAMES: Mapping[PrimitiveFeastType, str] = MappingProxyType(
    {
        String: "string",
        Bool: "bool",
        Int32: "int32",
        Int64: "int64",
        Float32: "float32",
        Float64: "float64",
        UnixTimestamp: "datetime",
    }
)
_FEAST: Mapping[str, PrimitiveFeastType] = MappingProxyType(
    {
        **{name: kind for kind, name in _NAMES.items()},
        "date": UnixTimestamp,
        "int8": Int32,
        "int16": Int32,
        "uint8": Int32,
        "uint16": Int32,
        "uint32": Int64,
    }
)


def from_feast(kind: FeastType) -> str:
    """Give the dtype name of a Feast type: `Float64` is `float64`, `Array(Int64)` `list[int64]`.

    Raises:
        ValueError: the store keeps no such values.
    """
    if isinstance(kind, Array) and _NAMES.get(kind.base_type) in NUMBERS:
        return f"list[{_NAMES[kind.base_type]}]"
    if isinstance(kind, PrimitiveFeastType) and kind in _NAMES:
        return _NAMES[kind]
    supported = ", ".join(str(one) for one in _NAMES)
    raise ValueError(f"Feast type {kind} is not kept; use {supported} or an Array of numbers")


def from_value(value_type: ValueType) -> str | None:
    """Give the dtype name of an entity's value type; None where it is left to the source.

    Raises:
        ValueError: the store keeps no such values.
    """
    if value_type is ValueType.UNKNOWN:
        return None
    return from_feast(from_value_type(value_type))


def to_feast(dtype: str | None) -> FeastType:
    """Give the Feast type nearest to a dtype name; `Invalid`, Feast's unknown, for None.

    Feast has fewer types than the store, so this is for Feast's own listings only.
    """
    if dtype is None:
        return Invalid
    if dtype in _FEAST:
        return _FEAST[dtype]
    inner = dtype.partition("[")[2].rstrip("]").partition(",")[0]
    return Array(_FEAST[inner])


def family(dtype: str) -> str:
    """Give the kind of values: `number`, `string`, `bool`, `time` or `list`."""
    if dtype in NUMBERS:
        return "number"
    if dtype in ("date", "datetime"):
        return "time"
    return "list" if "[" in dtype else dtype
