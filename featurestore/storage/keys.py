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
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from itertools import compress, repeat
from operator import eq

import numpy as np
import polars as pl
from numpy.typing import NDArray
from xxhash import xxh64_hexdigest

from featurestore.errors import InvalidRequest
from featurestore.model.schema import Column
from featurestore.storage.xxh64 import Hashes, alike, cells_of, hash_rows

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 80
_ALIAS = re.compile(r"(?![0-9]+\Z)[A-Za-z0-9_.-]{1,64}")
_STATES, _PUSHED = "w", "p"
_TABLE = re.compile(rf"[0-9a-f]{{16}}\.[0-9]+[{_STATES}{_PUSHED}]?")
_INTEGER = (b"i", "<i8")
_PAYLOADS = {
    "bool": (b"b", "u1"),
    "date": (b"d", "<i4"),
    "datetime": (b"t", "<i8"),
}

_take: Callable[[bytes, slice], bytes] = bytes.__getitem__
# Rows hashed at a time: what sixty passes go over should fit the cache, but texts are told apart by
# their lengths, so not too few.
_AT_ONCE = 65_536


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


def canonical_cells(columns: Sequence[bytes | list[str]], count: int) -> list[bytes]:
    """Give each row's canonical key, of columns without nulls that never were in a frame.

    Integers come as 8 bytes each, little-endian, strings as str; columns in the order of join keys.
    """
    pieces: list[Iterable[bytes]] = []
    tag = bytes([len(columns)])
    for column in columns:
        if isinstance(column, bytes):
            pieces += [repeat(tag + b"i", count), np.frombuffer(column, "V8").tolist()]
        else:
            texts = list(map(str.encode, column))
            sizes = np.fromiter(map(len, texts), "<u4", count).view("V4")
            pieces += [repeat(tag + b"s", count), sizes.tolist(), texts]
        tag = b""
    return list(map(b"".join, zip(*pieces, strict=True)))


def numbers_of(frame: pl.DataFrame, column: Column) -> pl.Series:
    """Give an Int64 that stands for each value of a key column: itself if it is whole, else a hash.

    Of texts it is the xxHash64: among a million of one entity two fall together once in forty
    million cases. Null stays null.
    """
    series = frame[column.name]
    if series.dtype == pl.Int64:
        return series
    if series.dtype != pl.String:
        return series.to_physical().cast(pl.Int64)
    hashes = _hashes(frame.select(column.name), [column], frame.height)
    numbers = pl.DataFrame({"": hashes.view(np.int64), "null": series.is_null()})
    return numbers.select(pl.when(~pl.col("null")).then(pl.col(""))).to_series()


def bucket_of(frame: pl.DataFrame, join_keys: Sequence[Column], buckets: int) -> pl.Series:
    """Give each row's bucket, UInt32 in [0, `buckets`); rows with a null key are in bucket 0.

    That is the last bits of the hash of the canonical key, which is never made as an object.

    Raises:
        ValueError: `buckets` is not a power of two.
    """
    if buckets < 1 or buckets & (buckets - 1):
        raise ValueError(f"buckets must be a power of two, not {buckets}")
    values = np.zeros(frame.height, np.uint32)
    if buckets > 1:
        keys = frame.select(column.name for column in join_keys).rechunk()
        for at in range(0, frame.height, _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            values[part] = _hashes(keys[part], join_keys, len(values[part])) & np.uint64(
                buckets - 1
            )
        for column in join_keys:
            if keys[column.name].null_count():
                values[keys[column.name].is_null().to_numpy()] = 0
    return pl.Series("bucket", values, dtype=pl.UInt32)


def redis_keys(
    project: str, table_id: str, canonical: Sequence[bytes], tags: Sequence[bytes] | None = None
) -> list[bytes]:
    """Give the Redis key of each canonical key in a table; `tags` are those of the keys if known.

    Raises:
        InvalidRequest: the project's name or the table's id has other characters than they may.
    """
    prefix = b"}" + table_prefix(project, table_id)
    known = tags_of(canonical) if tags is None else tags
    return list(map(b"".join, zip(repeat(b"{"), known, repeat(prefix), canonical)))


def tags_of(canonical: Sequence[bytes]) -> list[bytes]:
    """Give what stands inside the braces of each key, by which a cluster chooses its slot.

    That is the hash of the canonical key alone, so that all views of an entity share a slot and no
    user byte stands there.
    """
    digests = "".join(map(xxh64_hexdigest, canonical)).encode()
    found: list[bytes] = np.frombuffer(digests, "S16").tolist()
    return found


def states_of(table_id: str) -> str:
    """Name what holds the window states of a table's entities, beside their rows."""
    return f"{table_id}{_STATES}"


def pushed_of(table_id: str) -> str:
    """Name what holds the events that were pushed to a table's windows, and that it may lack."""
    return f"{table_id}{_PUSHED}"


def table_of(table_id: str) -> str:
    """Give the table that rows, window states or pushed events belong to."""
    return table_id.rstrip(_STATES + _PUSHED)


@lru_cache(maxsize=4096)
@lru_cache(maxsize=4096)
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


def _with_none(keys: list[bytes], null: NDArray[np.bool_]) -> list[bytes | None]:
    boxed = np.empty(len(keys), object)
    boxed[:] = keys
    boxed[null] = None
    found: list[bytes | None] = boxed.tolist()
    return found


def _pieces(series: pl.Series, dtype: str) -> list[list[bytes]]:
    cells, text = _fixed(series, dtype), _filled(series, dtype)
    pieces: list[list[bytes]] = [cells.view(f"V{cells.itemsize}").tolist()]
    return pieces if text is None else [*pieces, list(map(str.encode, text.to_list()))]


def _filled(series: pl.Series, dtype: str) -> pl.Series | None:
    """Give the texts of a string key, '' for null; None for other keys."""
    if dtype != "string":
        return None
    return series.fill_null("") if series.null_count() else series


def _fixed(series: pl.Series, dtype: str) -> NDArray[np.void]:
    """Give what is of fixed width in a key: tag and value, or tag and length of a text."""
    text = _filled(series, dtype)
    if text is not None:
        return _tagged(b"s", "<u4", text.str.len_bytes().to_numpy())
    tag, payload = _PAYLOADS.get(dtype, _INTEGER)
    filled = series.fill_null(strategy="zero") if series.null_count() else series
    values = filled.to_numpy()
    return _tagged(tag, payload, values.view("<i8") if values.dtype.kind == "M" else values)


def _tagged(tag: bytes, dtype: str, values: NDArray[np.generic]) -> NDArray[np.void]:
    cells = np.empty(len(values), [("tag", "S1"), ("value", dtype)])
    cells["tag"] = tag
    cells["value"] = values
    return cells


def _hashes(keys: pl.DataFrame, join_keys: Sequence[Column], rows: int) -> Hashes:
    """Hash rows' canonical keys as matrices of bytes, one per length; null counts as zero or ''."""
    fixed = [_fixed(keys[column.name], column.dtype) for column in join_keys]
    texts = [_filled(keys[column.name], column.dtype) for column in join_keys]
    lengths = [cells["value"] for cells, text in zip(fixed, texts, strict=True) if text is not None]
    flats = [_flat(text) for text in texts]
    hashes = np.empty(rows, np.uint64)
    for chosen in alike(*lengths) if lengths else [slice(None)]:
        parts = [np.full((len(hashes[chosen]), 1), len(join_keys), np.uint8)]
        for cells, flat in zip(fixed, flats, strict=True):
            some = cells[chosen]
            parts.append(some.view(np.uint8).reshape(len(some), -1))
            if flat is not None:
                data, starts = flat
                parts.append(cells_of(data, starts[chosen], int(some["value"][0])))
        hashes[chosen] = hash_rows(np.concatenate(parts, axis=1))
    return hashes


def _flat(text: pl.Series | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Give all texts in one buffer of UTF-8, and where each starts."""
    if text is None:
        return None
    ends = text.str.len_bytes().cast(pl.Int64).cum_sum()
    starts = ends.shift(1, fill_value=0).to_numpy()
    return np.frombuffer(text.str.join().item().encode(), np.uint8), starts


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
