"""Columns of one dtype as arrays, between Polars, NumPy and the messages of the wire.

Fixed-width values travel by whole buffers. A null's slot is zeroed, so equal columns have equal
bytes; NaN payloads, -0.0 and infinities pass bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.errors import InvalidRequest
from featurestore.model.schema import SCALARS, parse_dtype
from featurestore.proto.v1 import values_pb2
from featurestore.serving.message import twin
from featurestore.serving.message.twin import Misfit

Array = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """How elements of a dtype travel: their enum number, field, and dtypes here and there."""

    number: int
    field: str
    here: np.dtype[Any]
    there: np.dtype[Any]


def _element(name: str, field: str, here: str, there: str) -> Element:
    number = values_pb2.DataType.Value(f"DATA_TYPE_{name.upper()}")
    return Element(number=number, field=field, here=np.dtype(here), there=np.dtype(there))


ELEMENTS: Mapping[str, Element] = MappingProxyType(
    {
        "bool": _element("bool", "bools", "?", "?"),
        "int8": _element("int8", "int32s", "<i1", "<i4"),
        "int16": _element("int16", "int32s", "<i2", "<i4"),
        "int32": _element("int32", "int32s", "<i4", "<i4"),
        "int64": _element("int64", "int64s", "<i8", "<i8"),
        "uint8": _element("uint8", "uint32s", "<u1", "<u4"),
        "uint16": _element("uint16", "uint32s", "<u2", "<u4"),
        "uint32": _element("uint32", "uint32s", "<u4", "<u4"),
        "float32": _element("float32", "floats", "<f4", "<f4"),
        "float64": _element("float64", "doubles", "<f8", "<f8"),
        "string": _element("string", "strings", "O", "O"),
        "date": _element("date", "int32s", "<i4", "<i4"),
        "datetime": _element("datetime", "int64s", "<i8", "<i8"),
    }
)
_NAMES = {element.number: name for name, element in ELEMENTS.items()}
SCALAR, ARRAY, LIST = values_pb2.SHAPE_SCALAR, values_pb2.SHAPE_ARRAY, values_pb2.SHAPE_LIST


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Columns of one dtype with equally many rows, flat: value r of column c is c * rows + r.

    `elements` holds the values, of arrays and lists their elements, of strings a list of str; dates
    are days, datetimes UTC microseconds. `lengths` counts each list's elements. `valid` has shape
    (columns, rows), None if nothing is null; `inner` is the same of all elements, flat.
    """

    dtype: str
    columns: int
    rows: int
    elements: Array | list[str]
    lengths: Array | None = None
    valid: Mask | None = None
    inner: Mask | None = None


def shape_of(dtype: str) -> tuple[str, int, int]:
    """Give a dtype's element name, its shape's enum number and the width of a fixed array."""
    if dtype in SCALARS:
        return dtype, SCALAR, 0
    kind, _, rest = dtype.partition("[")
    inner, _, width = rest.removesuffix("]").partition(",")
    return (inner, ARRAY, int(width)) if kind == "array" else (inner, LIST, 0)


def grid_of(columns: Sequence[pl.Series], dtype: str) -> Grid:
    """Turn Polars columns of one dtype (stable name `dtype`) and one length into a grid."""
    element, shape, width = shape_of(dtype)
    rows = len(columns[0])
    whole = columns[0] if len(columns) == 1 else pl.concat([c.alias("") for c in columns])
    valid = whole.is_not_null().to_numpy() if whole.null_count() else None
    lengths = None
    if shape == LIST:
        lengths = whole.list.len().fill_null(0).to_numpy().astype("<u4")
        whole = whole.explode(empty_as_null=False, keep_nulls=False)
    elif shape == ARRAY:
        whole = whole.drop_nulls().explode() if width else pl.Series(dtype=SCALARS[element])
    inner = None
    if shape != SCALAR and whole.null_count():
        inner = whole.is_not_null().to_numpy()
    elements = _filled(whole)
    if width and valid is not None:
        elements = _spread(elements, valid, width, 0)
        inner = None if inner is None else _spread(inner, valid, width, 1)
    return Grid(
        dtype=dtype,
        columns=len(columns),
        rows=rows,
        elements=elements,
        lengths=lengths,
        valid=None if valid is None else valid.reshape(len(columns), rows),
        inner=inner,
    )


def _filled(flat: pl.Series) -> Any:
    nulls = flat.null_count()
    if flat.dtype == pl.String:
        return (flat.fill_null("") if nulls else flat).to_list()
    physical = flat.to_physical() if flat.dtype.is_temporal() else flat
    if nulls:
        physical = physical.fill_null(value=False if flat.dtype == pl.Boolean else 0)
    return physical.to_numpy()


def _spread(elements: Array, valid: Mask, width: int, fill: int) -> Array:
    """Give null arrays slots of their own among the others' elements."""
    spread = np.full((valid.size, width), fill, elements.dtype)
    spread[valid] = elements.reshape(-1, width)
    return spread.reshape(-1)


def series_of(grid: Grid, column: int, name: str) -> pl.Series:
    """Give one column of a grid as a Polars Series of its exact dtype."""
    element, shape, width = shape_of(grid.dtype)
    dtype = parse_dtype(grid.dtype)
    first, last = column * grid.rows, (column + 1) * grid.rows
    valid = None if grid.valid is None else grid.valid[column]
    if valid is not None and valid.all():
        valid = None
    if shape == SCALAR:
        return _masked(_flat(grid.elements[first:last], element, name), valid)
    if shape == ARRAY:
        if not width:
            return _masked(pl.Series(name, [[]], dtype).new_from_index(0, grid.rows), valid)
        flat = _masked(*_part(grid, first * width, last * width, element))
        return _masked(flat.reshape((-1, width)).cast(dtype).alias(name), valid)
    lengths = np.zeros(0, "<u4") if grid.lengths is None else grid.lengths
    before = int(lengths[:first].sum())
    own = lengths[first:last]
    flat = _masked(*_part(grid, before, before + int(own.sum()), element))
    return _lists(flat, own, valid, dtype).alias(name)


def _part(grid: Grid, first: int, last: int, element: str) -> tuple[pl.Series, Mask | None]:
    inner = None if grid.inner is None else grid.inner[first:last]
    return _flat(grid.elements[first:last], element, ""), inner


def _flat(elements: Array | list[str], element: str, name: str) -> pl.Series:
    dtype = SCALARS[element]
    if element == "string":
        return pl.Series(name, elements, dtype)
    flat = pl.Series(name, elements)
    return flat if flat.dtype == dtype else flat.cast(dtype)


def _masked(column: pl.Series, valid: Mask | None) -> pl.Series:
    if valid is None:
        return column
    nulls = pl.Series(column.name, [None], column.dtype).new_from_index(0, len(column))
    return column.zip_with(pl.Series(valid), nulls)


def _lists(flat: pl.Series, lengths: Array, valid: Mask | None, dtype: pl.DataType) -> pl.Series:
    """Cut flat elements into lists: group the filled ones, then put empties and nulls between."""
    filled = lengths > 0
    grouped = (
        pl.DataFrame({"row": np.repeat(np.arange(len(lengths)), lengths), "list": flat})
        .group_by("row", maintain_order=True)
        .agg("list")["list"]
    )
    ends = pl.Series("list", [[], None], dtype)
    choice = np.where(filled, np.cumsum(filled) - 1, len(grouped))
    if valid is not None:
        choice[~valid] = len(grouped) + 1
    return pl.concat([grouped.cast(dtype), ends]).gather(choice)


def put(grid: Grid, message: Any) -> None:
    """Fill a twin `Values` message."""
    element, shape, width = shape_of(grid.dtype)
    how = ELEMENTS[element]
    message.type = how.number
    message.shape = shape
    if shape == ARRAY:
        message.width = width
    if grid.lengths is not None:
        message.lengths = grid.lengths.astype("<u4", copy=False).tobytes()
    if grid.valid is not None:
        gaps = np.flatnonzero(~grid.valid.all(axis=1))
        if gaps.size:
            message.nullable.extend(gaps.tolist())
            message.validity = np.packbits(grid.valid[gaps], axis=1, bitorder="little").tobytes()
    if grid.inner is not None and not grid.inner.all():
        message.element_validity = np.packbits(grid.inner, bitorder="little").tobytes()
    if isinstance(grid.elements, list):
        message.strings.extend(grid.elements)
    else:
        setattr(message, how.field, grid.elements.astype(how.there, copy=False).tobytes())


def message_of(grid: Grid) -> Any:
    """Give a grid as a twin `Values` message."""
    message = twin.Values()
    put(grid, message)
    return message


def read(message: Any, *, columns: int, rows: int, path: str) -> Grid:
    """Read a twin `Values` message of so many columns and rows.

    Raises:
        Misfit: an array's length is not what columns, rows and dtype need.
        InvalidRequest: the type is not one this build knows, or a value does not fit it.
    """
    if message.type not in _NAMES:
        raise InvalidRequest(f"{path}.type: {message.type} is no data type this server knows")
    element, shape = _NAMES[message.type], message.shape or SCALAR
    if shape not in (SCALAR, ARRAY, LIST):
        raise InvalidRequest(f"{path}.shape: {shape} is no shape this server knows")
    cells = columns * rows
    lengths, count, dtype = None, cells, element
    if shape == LIST:
        lengths = _buffer(message.lengths, np.dtype("<u4"), cells, f"{path}.lengths")
        count, dtype = int(lengths.sum(dtype=np.uint64)), f"list[{element}]"
    elif shape == ARRAY:
        count, dtype = cells * message.width, f"array[{element},{message.width}]"
    _known(dtype, path)
    how = ELEMENTS[element]
    where = f"{path}.{how.field}"
    raw = getattr(message, how.field)
    if element == "string":
        _expect(len(raw), count, "values", where)
        elements: Array | list[str] = list(raw)
    else:
        elements = _native(raw, how, count, where)
    valid = _validity(message, columns, rows, path)
    inner = None
    if message.element_validity:
        inner = _bits(message.element_validity, 1, count, f"{path}.element_validity")[0]
    return Grid(
        dtype=dtype,
        columns=columns,
        rows=rows,
        elements=elements,
        lengths=lengths,
        valid=valid,
        inner=inner,
    )


def _known(dtype: str, path: str) -> None:
    try:
        parse_dtype(dtype)
    except ValueError as error:
        raise InvalidRequest(f"{path}: {error}") from error


def _expect(found: int, needed: int, what: str, path: str) -> None:
    if found != needed:
        raise Misfit(f"{path}: has {found} {what} where {needed} are needed")


def _buffer(raw: bytes, dtype: np.dtype[Any], count: int, path: str) -> Array:
    _expect(len(raw), count * dtype.itemsize, "bytes", path)
    return np.frombuffer(raw, dtype)


def _native(raw: bytes, how: Element, count: int, path: str) -> Array:
    if how.field == "bools":
        found = _buffer(raw, np.dtype("u1"), count, path)
        if count and found.max() > 1:
            raise Misfit(f"{path}: a byte is neither 0 nor 1")
        return found.view("?")
    found = _buffer(raw, how.there, count, path)
    if how.here == how.there:
        return found
    limits = np.iinfo(how.here)
    if count and (found.min() < limits.min or found.max() > limits.max):
        raise InvalidRequest(f"{path}: a value does not fit {how.here.name}")
    return found.astype(how.here)


def _validity(message: Any, columns: int, rows: int, path: str) -> Mask | None:
    if not message.nullable:
        return None
    gaps = np.array(message.nullable, np.int64)
    if gaps.max() >= columns or len(np.unique(gaps)) < len(gaps):
        raise InvalidRequest(f"{path}.nullable: names a column twice or one that is not there")
    valid = np.ones((columns, rows), np.bool_)
    valid[gaps] = _bits(message.validity, len(gaps), rows, f"{path}.validity")
    return valid


def _bits(raw: bytes, columns: int, count: int, path: str) -> Mask:
    packed = _buffer(raw, np.dtype("u1"), columns * -(-count // 8), path)
    bits = np.unpackbits(packed.reshape(columns, -1), axis=1, count=count, bitorder="little")
    return bits.view(np.bool_)
