"""The bytes of an answer: what never changes of it, and whole buffers of values between.

A message's fields may be written one after the other as bytes, so that of a block of fixed-width
columns nothing is made but the bytes themselves.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from featurestore.proto.v1 import feature_store_pb2, values_pb2
from featurestore.serving.message.wire import ELEMENTS, Array, Grid, Mask, message_of, shape_of

Run = tuple[Array, Mask | None, Mask | None]
"""Columns of one dtype: values by (column, row[, element]), and which of them, and which of their
elements, are there; None for all.
"""


def _numbers(message: Any) -> Mapping[str, int]:
    return {field.name: field.number for field in message.DESCRIPTOR.fields}


_REPLY = _numbers(feature_store_pb2.GetOnlineFeaturesResponse)
_BLOCK, _VALUES = _numbers(values_pb2.Block), _numbers(values_pb2.Values)
_VARINT, _FIXED64, _BYTES = 0, 1, 2
"""Wire types. Source: protobuf.dev/programming-guides/encoding."""


def answered(
    head: bytes,
    blocks: Sequence[bytes],
    *,
    statuses: bytes,
    event_times: bytes,
    count: int,
    as_of: int,
) -> bytes:
    """Give a GetOnlineFeaturesResponse: a head that never changes, and its blocks."""
    return b"".join(
        (
            head,
            *blocks,
            _field(_REPLY["statuses"], statuses),
            _field(_REPLY["event_times"], event_times),
            _key(_REPLY["count"], _VARINT),
            _varint(count),
            _key(_REPLY["as_of"], _FIXED64),
            as_of.to_bytes(8, "little", signed=True),
        )
    )


def block_of(outputs: bytes, values: bytes) -> bytes:
    """Give a reply's block, of `packed` outputs and the bytes of its values."""
    return _field(_REPLY["blocks"], outputs + _field(_BLOCK["values"], values))


def outputs_of(numbers: Sequence[int]) -> bytes:
    """Give the field of a block that numbers its outputs."""
    return _field(_BLOCK["outputs"], _packed(numbers))


def values_of(dtype: str, runs: Sequence[Run]) -> bytes:
    """Give a `Values` message of fixed-width columns, run after run; what is not there is zero."""
    element, shape, width = shape_of(dtype)
    how = ELEMENTS[element]
    start = _start(how.number, shape, width)
    cells = [_cells(run, how.there) for run in runs]
    elements = _field(_VALUES[how.field], cells[0] if len(cells) == 1 else b"".join(cells))
    masked = any(valid is not None for _, valid, _ in runs)
    inner = any(one is not None for _, _, one in runs)
    if not masked and not inner:
        return start + elements
    return start + _validity(runs) + (_inner(runs) if inner else b"") + elements


def strings_of(columns: Sequence[tuple[list[bytes], Mask]]) -> bytes:
    """Give a `Values` message of strings: UTF-8 column after column, and which are there."""
    element, shape, width = shape_of("string")
    cells = list(chain.from_iterable(one for one, _ in columns))
    sizes = list(map(len, cells))
    key = _key(_VALUES["strings"], _BYTES)
    heads = {size: key + _varint(size) for size in set(sizes)}
    strings = b"".join(chain.from_iterable(zip(map(heads.__getitem__, sizes), cells, strict=True)))
    validity = _validity([(valid, valid, None) for _, valid in columns])
    return _start(ELEMENTS[element].number, shape, width) + validity + strings


def texts_of(grid: Grid) -> tuple[list[bytes], Mask]:
    """Give strings as they are stored, and which are there."""
    cells = list(map(str.encode, grid.elements))
    valid = np.ones((grid.columns, grid.rows), np.bool_) if grid.valid is None else grid.valid
    return cells, valid


def run_of(grid: Grid) -> Run:
    """Give columns of fixed width as a run."""
    _, _, width = shape_of(grid.dtype)
    shape = (grid.columns, grid.rows, *((width,) if width else ()))
    values = np.reshape(grid.elements, shape)
    return values, grid.valid, None if grid.inner is None else grid.inner.reshape(shape)


def _cells(run: Run, there: np.dtype[Any]) -> bytes:
    values, valid, _ = run
    if valid is not None:
        wide = valid[..., None] if values.ndim > valid.ndim else valid
        values = np.where(wide, values, values.dtype.type(0))
    return values.astype(there, copy=False).tobytes()


def _validity(runs: Sequence[Run]) -> bytes:
    """Give which columns have nulls, and their bitmaps."""
    gaps: list[int] = []
    bitmaps = []
    first = 0
    for values, valid, _ in runs:
        if valid is not None:
            missing = np.flatnonzero(~valid.all(axis=1))
            gaps += (missing + first).tolist()
            bitmaps.append(np.packbits(valid[missing], axis=1, bitorder="little").tobytes())
        first += len(values)
    if not gaps:
        return b""
    found = b"".join(bitmaps)
    return _field(_VALUES["nullable"], _packed(gaps)) + _field(_VALUES["validity"], found)


def _inner(runs: Sequence[Run]) -> bytes:
    """Give the bitmap over all elements; those of a null value count as there."""
    flat = []
    for values, valid, inner in runs:
        there = np.ones(values.shape, np.bool_) if inner is None else inner
        if valid is not None:
            there = there | ~valid[..., None]
        flat.append(there.reshape(-1))
    whole = np.concatenate(flat)
    if whole.all():
        return b""
    return _field(_VALUES["element_validity"], np.packbits(whole, bitorder="little").tobytes())


@lru_cache(maxsize=256)
def _start(number: int, shape: int, width: int) -> bytes:
    fields = {"type": number, "shape": shape, "width": width}
    return b"".join(_key(_VALUES[name], _VARINT) + _varint(one) for name, one in fields.items())


def grid_bytes(grid: Grid) -> bytes:
    """Give a `Values` message of any columns."""
    return bytes(message_of(grid).SerializeToString())


def _field(number: int, payload: bytes) -> bytes:
    return b"".join((_key(number, _BYTES), _varint(len(payload)), payload))


@lru_cache(maxsize=64)
def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _packed(numbers: Sequence[int]) -> bytes:
    return b"".join(map(_varint, numbers))


def _varint(number: int) -> bytes:
    if number < 1 << 7:
        return bytes((number,))
    found = bytearray()
    while number >= 1 << 7:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
