"""Packed rows: one entity's feature values as bytes that compare in the order of their knowledge.

A row is a header, a validity bitmap, the fixed-width columns, the lengths of the variable-width
ones, and their bytes:

======== ===== =====================================================================
 field   bytes content
======== ===== =====================================================================
format   1     1, or 2 with a number
event    8     event time, µs UTC, big-endian with the sign bit flipped
created  8     created time, likewise; null is the lowest
revision 4     unsigned, big-endian
number   8     format 2 only: tells events of one time apart, big-endian, sign bit flipped
kind     1     1 = value, 0 = tombstone
valid    ⌈n/8⌉ a bit per column, 1 = valid, lowest bit first
fixed    …     little-endian, columns of one dtype side by side; arrays with a bitmap each
lengths  4·v   unsigned, little-endian
variable …     UTF-8, or a list: flag byte, elements[, a validity byte per element if flag = 1]
======== ===== =====================================================================

Bytes of two rows of one key compare as (event, created, revision[, number], kind). Null slots are
zero, so equal rows are equal bytes; NaN payloads and signed zeros are kept. Columns stand in the
order of (dtype, name), whatever order they are named in. A row does not name its columns: the table
does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat
from operator import is_
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.errors import CorruptData
from featurestore.model.documents import View
from featurestore.model.schema import Column
from featurestore.model.windows import row_features, windows
from featurestore.storage.decoded import SIGN, Decoded, unbiased
from featurestore.storage.fixed import (
    Block,
    blocks_of,
    record,
    store,
    validity,
)
from featurestore.storage.variable import is_variable, pack

HEADER_BYTES = 22
"""Of format 1."""
_PLAIN, _NUMBERED = 1, 2

_take: Callable[[bytes, slice], bytes] = bytes.__getitem__


def row_columns(view: View) -> tuple[Column, ...]:
    """Give the columns of a view's rows: all its row features, by name, whoever asks for which."""
    return tuple(sorted(Column(name=one.name, dtype=one.dtype) for one in row_features(view)))


@lru_cache(maxsize=1024)
def layout_of(view: View) -> "RowLayout":
    """Give how the rows of a view are packed in Redis."""
    return RowLayout(columns=row_columns(view), numbered=bool(windows(view)))


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How rows of these columns are packed, and whether each has a number beside its times.

    `places` are the block of each column (None: it is of variable width) and its place there.

    Raises:
        ValueError: two columns share a name, or a dtype is not supported.
    """

    columns: tuple[Column, ...]
    numbered: bool = False
    blocks: tuple[Block, ...] = field(init=False)
    variable: tuple[Column, ...] = field(init=False)
    dtype: np.dtype[np.void] = field(init=False, repr=False, compare=False)
    places: Mapping[str, tuple[int | None, int]] = field(init=False, repr=False, compare=False)
    _kind: int = field(init=False, repr=False, compare=False)
    _bitmap: tuple[tuple[int, bytes], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive the blocks and the NumPy dtype of everything before the variable bytes."""
        stored = sorted(self.columns, key=lambda column: (column.dtype, column.name))
        if len({column.name for column in stored}) < len(stored):
            raise ValueError("two columns of a row share a name")
        fixed = [column for column in stored if not is_variable(column.polars)]
        variable = [column for column in stored if is_variable(column.polars)]
        blocks = blocks_of(fixed)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "variable", tuple(variable))
        dtype = record(blocks, len(stored), len(variable), numbered=self.numbered)
        object.__setattr__(self, "dtype", dtype)
        fixed_at = {n: (i, at) for i, one in enumerate(blocks) for at, n in enumerate(one.names)}
        others = {column.name: (None, at) for at, column in enumerate(variable)}
        object.__setattr__(self, "places", MappingProxyType({**fixed_at, **others}))
        places = {name: place for name, (_, place, *_) in (dtype.fields or {}).items()}
        object.__setattr__(self, "_kind", places["kind"])
        full = ((1 << len(stored)) - 1).to_bytes((len(stored) + 7) // 8, "little")
        bitmap = tuple((places["valid"] + at, bytes([mask])) for at, mask in enumerate(full))
        object.__setattr__(self, "_bitmap", bitmap)

    def encode(
        self,
        frame: pl.DataFrame,
        event_time: pl.Series,
        created: pl.Series | None,
        revision: int | pl.Series,
        number: pl.Series | None = None,
    ) -> list[bytes]:
        """Pack each row of a frame that has the layout's columns in their exact dtypes.

        `event_time` and `created` are UTC microseconds (Datetime or Int64); `created` may be null.
        A `number` (Int64) is packed where the layout has one.

        Raises:
            ValueError: a column has another dtype, or an event time is null.
        """
        heads = self._heads(event_time, created, revision, number, kind=1)
        valid = np.empty((frame.height, len(self.columns)), np.bool_)
        for group, block in enumerate(self.blocks):
            for at, name in enumerate(block.names):
                series = _exact(frame, Column(name=name, dtype=block.dtype))
                valid[:, block.start + at] = validity(series)
                store(heads, group, at, block, series)
        pieces = []
        for at, column in enumerate(self.variable):
            series = _exact(frame, column)
            valid[:, len(self.columns) - len(self.variable) + at] = validity(series)
            pieces.append(pack(series))
            heads["lengths"][:, at] = np.fromiter(map(len, pieces[-1]), np.uint32, frame.height)
        if self.columns:
            heads["valid"] = np.packbits(valid, axis=1, bitorder="little")
        packed = _split(heads)
        return list(map(b"".join, zip(packed, *pieces, strict=True))) if pieces else packed

    def tombstones(
        self,
        event_time: pl.Series,
        created: pl.Series | None,
        revision: int | pl.Series,
        number: pl.Series | None = None,
    ) -> list[bytes]:
        """Pack rows that say: at this moment the entity has no value.

        Raises:
            ValueError: an event time is null.
        """
        return _split(self._heads(event_time, created, revision, number, kind=0))

    def decode(self, rows: Sequence[bytes | None]) -> Decoded:
        """Unpack rows of this layout; None stands for a row that is absent.

        Raises:
            CorruptData: a row is shorter or longer than it says, or of an unknown format.
        """
        count, width = len(rows), self.dtype.itemsize
        filled = self._filled(rows)
        sizes = list(map(len, filled))
        if count and min(sizes) < width:
            raise _corrupt(f"a row is shorter than the {width} bytes of its fixed part")
        if not self.variable and count and max(sizes) > width:
            raise _corrupt(f"a row's length is not the {width} bytes of its columns")
        fixed = map(_take, filled, repeat(slice(0, width))) if self.variable else filled
        flat = b"".join(fixed)
        # A stride over bytes takes less than a comparison of one record's field.
        if flat[::width] != bytes([self._format]) * count:
            raise _corrupt(f"a row's format is not {self._format}")
        kinds = flat[self._kind :: width]
        if kinds and max(kinds) > 1:
            raise _corrupt("a row is neither value nor tombstone")
        heads = np.frombuffer(flat, self.dtype) if count else np.empty(0, self.dtype)
        if self.variable:
            own = heads["lengths"].sum(axis=1, dtype=np.int64)
            if (np.array(sizes, np.int64) != width + own).any():
                raise _corrupt("a row's length is not what its columns add up to")
        return Decoded(
            layout=self,
            rows=filled,
            heads=heads,
            event_time=unbiased(heads["event"]),
            absent=tuple(map(is_, rows, repeat(None))) if None in rows else (),
            complete=kinds == b"\1" * count,
            full=self._full(flat),
        )

    def sound(self, rows: Sequence[bytes | None]) -> list[bool]:
        """Say of each row whether it is one of this layout, or none at all."""
        try:
            self.decode(rows)
        except CorruptData:
            # One by one only where something is damaged, which is rare.
            return [len(rows) > 1 and all(self.sound([row])) for row in rows]
        return [True] * len(rows)

    def _full(self, flat: bytes) -> bool:
        """Say whether every column of every row has a value, by the rows' bitmaps."""
        width = self.dtype.itemsize
        count = len(flat) // width
        return all(flat[at::width] == mask * count for at, mask in self._bitmap)

    def _filled(self, rows: Sequence[bytes | None]) -> list[bytes]:
        if None not in rows:
            return list(rows)  # type: ignore[arg-type]
        nothing = bytes([self._format]) + bytes(self.dtype.itemsize - 1)
        boxed = np.array(rows, object)
        boxed[np.fromiter(map(is_, rows, repeat(None)), np.bool_, len(rows))] = nothing
        filled: list[bytes] = boxed.tolist()
        return filled

    def _heads(
        self,
        event_time: pl.Series,
        created: pl.Series | None,
        revision: int | pl.Series,
        number: pl.Series | None,
        *,
        kind: int,
    ) -> NDArray[np.void]:
        if event_time.null_count():
            raise ValueError("an event time is null")
        heads = np.zeros(len(event_time), self.dtype)
        heads["format"] = self._format
        heads["event"] = _biased(event_time)
        if created is not None:
            heads["created"] = np.where(validity(created), _biased(created), np.uint64(0))
        heads["revision"] = revision if isinstance(revision, int) else revision.to_numpy()
        if self.numbered and number is not None:
            heads["number"] = _biased(number)
        heads["kind"] = kind
        return heads

    @property
    def _format(self) -> int:
        return _NUMBERED if self.numbered else _PLAIN


def _exact(frame: pl.DataFrame, column: Column) -> pl.Series:
    series = frame[column.name]
    if series.dtype != column.polars:
        raise ValueError(f"{column.name}: is {series.dtype}, but rows hold {column.dtype}")
    return series


def _biased(times: pl.Series) -> NDArray[np.uint64]:
    # What a series runs as a query takes as long as copying thousands of numbers.
    whole = times.to_physical().fill_null(0) if times.null_count() else times
    values = whole.to_numpy()
    plain = values.view(np.int64) if values.dtype.kind == "M" else values
    return np.ascontiguousarray(plain, np.int64).view(np.uint64) ^ SIGN


def _split(heads: NDArray[np.void]) -> list[bytes]:
    packed: list[bytes] = heads.view(f"V{heads.dtype.itemsize}").tolist()
    return packed


def _corrupt(what: str) -> CorruptData:
    return CorruptData(
        f"{what}: it was not written with this table's columns; run `featurestore rebuild-online`"
    )
