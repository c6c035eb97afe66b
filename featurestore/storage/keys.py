"""Canonical entity keys: one injective encoding for Redis, buckets and locks, and its stable hash.

A canonical key is a count byte, then for each join key (sorted by name) a type tag and a payload:

====== ===== ==========================================
 tag   bytes payload
====== ===== ==========================================
 `b`   1     0 or 1
 `i`   8     any integer, little-endian two's complement
 `d`   4     days since 1970-01-01, little-endian
 `t`   8     microseconds since 1970-01-01 UTC
 `s`   4 + n length (u32, little-endian), UTF-8 bytes
====== ===== ==========================================

An entity-less view has the key `00`. Strings are compared as they are: no normalization.
"""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import compress, repeat
from operator import eq
from struct import unpack_from

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.errors import InvalidRequest
from featurestore.model.schema import Column

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 80
_ALIAS = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9_.-]{1,64}")
_TABLE = re.compile(r"[0-9a-f]{16}\.[0-9]+")
_INTEGER = (b"i", "<i8")
_PAYLOADS = {
    "bool": (b"b", "u1"),
    "date": (b"d", "<i4"),
    "datetime": (b"t", "<i8"),
}

# The constants of xxHash64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_SEEDS = np.array([int(_P1) + int(_P2) - 2**64, _P2, 0, 2**64 - int(_P1)], np.uint64)
_I1, _I2, _I3, _I4, _I5 = map(int, (_P1, _P2, _P3, _P4, _P5))
_MASK = 2**64 - 1
# A lookup of one entity cannot wait for sixty NumPy calls (55 µs); in plain integers it is 7 µs.
_FEW = 6
_SHIFT = tuple(map(np.uint64, range(64)))

_take: Callable[[bytes, slice], bytes] = bytes.__getitem__
Hashes = NDArray[np.uint64]


def cast_keys(frame: pl.DataFrame, join_keys: Sequence[Column], path: str) -> pl.DataFrame:
    """Cast a frame's key columns to their declared dtypes, where no value can change its meaning.

    Integers of any width join in range; integral floats (pandas keeps a nullable integer as float,
    with NaN for null) join integers up to the largest float that is exact; categories join strings;
    datetimes join in UTC, naive ones as UTC. Nulls stay null; other columns are untouched.

    Raises:
        InvalidRequest: a column is missing or has another dtype; the message names `path` and it.
    """
    if all(frame.schema.get(column.name) == column.polars for column in join_keys):
        return frame
    return frame.with_columns([_cast(frame, column, path) for column in join_keys])


def canonical_keys(frame: pl.DataFrame, join_keys: Sequence[Column]) -> list[bytes | None]:
    """Give each row's canonical key; None where any of its keys is null.

    The columns have their declared dtypes already (`cast_keys`); `join_keys` are sorted by name.
    """
    rows = frame.height
    pieces: list[list[bytes]] = [[bytes([len(join_keys)])] * rows]
    null = np.zeros(rows, np.bool_)
    for column in join_keys:
        series = frame[column.name]
        if series.null_count():
            null |= series.is_null().to_numpy()
        pieces += _pieces(series, column.dtype)
    keys = list(map(b"".join, zip(*pieces, strict=True)))
    return _with_none(keys, null) if null.any() else list(keys)


def hash64(keys: Sequence[bytes]) -> Hashes:
    """Give the xxHash64 (seed 0) of each byte string, stable over versions and platforms."""
    if len(keys) <= _FEW:
        return np.array(list(map(_xxh64_of, keys)), np.uint64)
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    flat = np.frombuffer(b"".join(keys), np.uint8)
    if (lengths == lengths[0]).all():
        return _xxh64(flat.reshape(len(keys), int(lengths[0])))
    hashes = np.empty(len(keys), np.uint64)
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    edges = np.flatnonzero(np.diff(lengths[order])) + 1
    for rows in np.split(order, edges):
        width = int(lengths[rows[0]])
        if len(rows) <= _FEW:
            hashes[rows] = [_xxh64_of(keys[row]) for row in rows]
            continue
        hashes[rows] = _xxh64(flat[starts[rows][:, None] + np.arange(width)])
    return hashes


def bucket_of(frame: pl.DataFrame, join_keys: Sequence[Column], buckets: int) -> pl.Series:
    """Give each row's bucket, UInt32 in [0, `buckets`); rows with a null key are in bucket 0.

    Raises:
        ValueError: `buckets` is not a power of two.
    """
    if buckets < 1 or buckets & (buckets - 1):
        raise ValueError(f"buckets must be a power of two, not {buckets}")
    keys = canonical_keys(frame, join_keys)
    null = np.fromiter(map(_is_none, keys), np.bool_, len(keys))
    found = hash64(list(filter(None, keys))) & np.uint64(buckets - 1)
    values = np.zeros(len(keys), np.uint32)
    values[~null] = found
    return pl.Series("bucket", values, dtype=pl.UInt32)


def redis_keys(project: str, table_id: str, canonical: Sequence[bytes]) -> list[bytes]:
    """Give the Redis key of each canonical key in a table.

    The cluster hash tag is the hash of the canonical key alone, so that all views of an entity
    share a slot and no user byte stands inside the braces.

    Raises:
        InvalidRequest: the project's name or the table's id has other characters than they may.
    """
    prefix = b"}" + table_prefix(project, table_id)
    tags = repeat(b"{")
    return list(map(b"".join, zip(tags, _hex(hash64(canonical)), repeat(prefix), canonical)))


def table_prefix(project: str, table_id: str) -> bytes:
    """Give what stands between hash tag and canonical key: `fs1/<project>/<table id>/`.

    Raises:
        InvalidRequest: the project's name or the table's id has other characters than they may.
    """
    if not _TABLE.fullmatch(table_id):
        raise InvalidRequest(
            f"table id {table_id!r}: must be 16 hex digits, a point and a generation"
        )
    return f"fs1/{check_name(project, 'project')}/{table_id}/".encode()


def keys_of(found: Sequence[bytes], project: str, table_id: str) -> list[bytes]:
    """Give those of these Redis keys that are of exactly that table: decoded and made again."""
    start = len(b"{0123456789abcdef}" + table_prefix(project, table_id))
    canonical = list(map(_take, found, repeat(slice(start, None))))
    return list(compress(found, map(eq, found, redis_keys(project, table_id, canonical))))


def check_name(name: str, what: str) -> str:
    """Give the name back.

    Raises:
        InvalidRequest: it is empty or has other characters than letters, digits, `_` and `-`.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{what} name {name!r}: use letters, digits, '_' and '-' only")
    return name


def check_alias(name: str) -> str:
    """Give an alias's name back; a number would name a release.

    Raises:
        InvalidRequest: it is empty, longer than 64, only digits, or has other characters than
            letters, digits, `_`, `-` and `.`.
    """
    if not _ALIAS.fullmatch(name):
        raise InvalidRequest(
            f"alias name {name[:_SHOWN]!r}: use 1 to 64 letters, digits, '_', '-' and '.', and not "
            "only digits"
        )
    return name


def _is_none(key: bytes | None) -> bool:
    return key is None


def _with_none(keys: list[bytes], null: NDArray[np.bool_]) -> list[bytes | None]:
    boxed = np.empty(len(keys), object)
    boxed[:] = keys
    boxed[null] = None
    found: list[bytes | None] = boxed.tolist()
    return found


def _pieces(series: pl.Series, dtype: str) -> list[list[bytes]]:
    if dtype == "string":
        filled = series.fill_null("") if series.null_count() else series
        texts = list(map(str.encode, filled.to_list()))
        lengths = np.fromiter(map(len, texts), np.uint32, len(texts))
        return [_tagged(b"s", "<u4", lengths), texts]
    tag, payload = _PAYLOADS.get(dtype, _INTEGER)
    filled = series.fill_null(strategy="zero") if series.null_count() else series
    values = filled.to_numpy()
    return [_tagged(tag, payload, values.view("<i8") if values.dtype.kind == "M" else values)]


def _tagged(tag: bytes, dtype: str, values: NDArray[np.generic]) -> list[bytes]:
    cells = np.empty(len(values), [("tag", "S1"), ("value", dtype)])
    cells["tag"] = tag
    cells["value"] = values
    found: list[bytes] = cells.view(f"V{cells.itemsize}").tolist()
    return found


def _cast(frame: pl.DataFrame, column: Column, path: str) -> pl.Series:
    if column.name not in frame.columns:
        close = get_close_matches(column.name, frame.columns, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; add it ({column.dtype})"
        raise InvalidRequest(f"{path}.{column.name}: the key column is missing{hint}")
    series, target = frame[column.name], column.polars
    if series.dtype in (target, pl.Null):
        return series.cast(target)
    if target.is_integer() and series.dtype.is_float():
        series = _integral(series, column, path)
    if target.is_integer() and series.dtype.is_integer():
        found = series.cast(target, strict=False)
        if found.null_count() > series.null_count():
            raise _refused(column, path, f"a value does not fit {column.dtype}")
        return found
    if target == pl.String and isinstance(series.dtype, pl.Categorical | pl.Enum):
        return series.cast(target)
    if column.dtype == "datetime" and isinstance(series.dtype, pl.Datetime):
        return _microseconds(series, series.dtype, column, path)
    raise _refused(column, path, f"its dtype is {series.dtype}")


def _integral(series: pl.Series, column: Column, path: str) -> pl.Series:
    exact = 2**24 if series.dtype == pl.Float32 else 2**53
    values = series.fill_nan(None)
    if not ((values.abs() < exact) & (values == values.floor())).all():
        raise _refused(column, path, f"a {series.dtype} value is not an integer below {exact}")
    return values.cast(pl.Int64)


def _microseconds(series: pl.Series, dtype: pl.Datetime, column: Column, path: str) -> pl.Series:
    if dtype.time_unit == "ns" and (series.to_physical() % 1000 != 0).any():
        raise _refused(column, path, "a value has nanoseconds")
    aware = series if dtype.time_zone else series.dt.replace_time_zone("UTC")
    return aware.dt.cast_time_unit("us").dt.convert_time_zone("UTC")


def _refused(column: Column, path: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}.{column.name}: the key is declared {column.dtype}, but {why}; "
        f"cast the column to {column.polars} first"
    )


def _hex(hashes: Hashes) -> list[bytes]:
    digits = hashes.astype(">u8").tobytes().hex().encode()
    found: list[bytes] = np.frombuffer(digits, "S16").tolist()
    return found


def _rotate(values: Hashes, bits: int) -> Hashes:
    return (values << _SHIFT[bits]) | (values >> _SHIFT[64 - bits])


def _mixed(word: Hashes) -> Hashes:
    """One round over a fresh lane."""
    return _rotate(word * _P2, 31) * _P1


def _xxh64(rows: NDArray[np.uint8]) -> Hashes:
    """Hash each row of a matrix of bytes: every step of the algorithm over all rows at once."""
    count, width = rows.shape
    stripes, whole = width // 32 * 4, width // 8
    words = np.ascontiguousarray(rows[:, : whole * 8]).view("<u8").T
    hashes = _stripes(words[:stripes]) if stripes else np.full(count, _P5, np.uint64)
    hashes = hashes + np.uint64(width)
    for word in words[stripes:]:
        hashes = _rotate(hashes ^ _mixed(word), 27) * _P1 + _P4
    done = whole * 8
    if width - done >= 4:
        half = np.ascontiguousarray(rows[:, done : done + 4]).view("<u4")[:, 0]
        hashes = _rotate(hashes ^ (half * _P1), 23) * _P2 + _P3
        done += 4
    for byte in rows[:, done:].T:
        hashes = _rotate(hashes ^ (byte * _P5), 11) * _P1
    hashes = (hashes ^ (hashes >> _SHIFT[33])) * _P2
    hashes = (hashes ^ (hashes >> _SHIFT[29])) * _P3
    return hashes ^ (hashes >> _SHIFT[32])


def _stripes(words: Hashes) -> Hashes:
    lanes: Hashes = np.repeat(_SEEDS[:, None], words.shape[1], axis=1)
    for at in range(0, len(words), 4):
        lanes = _rotate(lanes + words[at : at + 4] * _P2, 31) * _P1
    one, two, three, four = lanes
    hashes = _rotate(one, 1) + _rotate(two, 7) + _rotate(three, 12) + _rotate(four, 18)
    for lane in lanes:
        hashes = (hashes ^ _mixed(lane)) * _P1 + _P4
    return hashes


def _xxh64_of(key: bytes) -> int:
    """Hash one byte string in plain integers: the same algorithm, for the few keys of a lookup."""
    width, whole = len(key), len(key) // 8 * 8
    words = unpack_from(f"<{whole // 8}Q", key)
    stripes = width // 32 * 4
    found = _stripes_of(words[:stripes]) if stripes else _I5
    found += width
    for word in words[stripes:]:
        found = _turn(found ^ _turn(word * _I2, 31) * _I1 & _MASK, 27) * _I1 + _I4
    if width - whole >= 4:
        half = int.from_bytes(key[whole : whole + 4], "little")
        found = _turn(found & _MASK ^ half * _I1 & _MASK, 23) * _I2 + _I3
        whole += 4
    for byte in key[whole:]:
        found = _turn(found & _MASK ^ byte * _I5 & _MASK, 11) * _I1
    found &= _MASK
    found = (found ^ found >> 33) * _I2 & _MASK
    found = (found ^ found >> 29) * _I3 & _MASK
    return found ^ found >> 32


def _turn(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> 64 - bits) & _MASK


def _stripes_of(words: tuple[int, ...]) -> int:
    lanes = _SEEDS.tolist()
    for at, word in enumerate(words):
        lanes[at % 4] = _turn(lanes[at % 4] + word * _I2, 31) * _I1
    found = sum(map(_turn, lanes, (1, 7, 12, 18)))
    for lane in lanes:
        found = (found & _MASK ^ _turn(lane * _I2, 31) * _I1 & _MASK) * _I1 + _I4
    return found
