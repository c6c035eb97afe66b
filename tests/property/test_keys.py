"""The laws of canonical entity keys."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.model.schema import KEYS, Column
from featurestore.storage.keys import (
    bucket_of,
    canonical_keys,
    keys_of,
    redis_keys,
)
from featurestore.storage.xxh64 import hash_rows

TABLE = "7f3a9c1e04b2aa10.0"
AWKWARD = (
    "",
    "\0",
    "a",
    "a\0",
    "bc",
    "ab",
    "c",
    "1",
    "é",
    "e\u0301",
    "*",
    "h?llo",
    "[a-z]",
    "{a}",
    "/",
)
VALUES = {
    "bool": st.booleans(),
    "string": st.sampled_from(AWKWARD) | st.text(max_size=40),
    "date": st.dates(),
    "datetime": st.datetimes(timezones=st.just(UTC)),
    **{
        f"{kind}{bits}": st.integers(low * 2 ** (bits - 1), (2 - (low and 1)) * 2 ** (bits - 1) - 1)
        for kind, low, widths in (("int", -1, (8, 16, 32, 64)), ("uint", 0, (8, 16, 32)))
        for bits in widths
    },
}


@st.composite
def keyed(draw: st.DrawFn) -> tuple[tuple[Column, ...], list[tuple[object, ...]]]:
    """Draw join keys of any dtypes and distinct tuples of their values."""
    dtypes = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3))
    columns = tuple(Column(name=f"k{at}", dtype=dtype) for at, dtype in enumerate(dtypes))
    row = st.tuples(*(st.none() | VALUES[dtype] for dtype in dtypes))
    return columns, draw(st.lists(row, unique=True, min_size=1, max_size=20))


def frame_of(columns: tuple[Column, ...], rows: list[tuple[object, ...]]) -> pl.DataFrame:
    """Give rows as a frame of the declared dtypes."""
    schema = {column.name: column.polars for column in columns}
    return pl.DataFrame(rows, schema=schema, orient="row")


@given(keyed())
def test_distinct_tuples_have_distinct_keys(
    drawn: tuple[tuple[Column, ...], list[tuple[object, ...]]],
) -> None:
    """Distinct tuples of one key never share a canonical key; a null key has none."""
    columns, rows = drawn
    keys = canonical_keys(frame_of(columns, rows), columns)
    whole = [key for key, row in zip(keys, rows, strict=True) if None not in row]
    assert [key is None for key in keys] == [None in row for row in rows]
    assert None not in whole
    assert len(set(whole)) == len(whole)


def test_no_two_awkward_tuples_share_a_key() -> None:
    """Boundaries, types, normal forms and glob characters all tell keys apart."""
    days, moment = date(1970, 1, 2), datetime(1970, 1, 2, tzinfo=UTC)
    cases = [((dtype,), (value,)) for dtype, value in [("string", text) for text in AWKWARD]]
    cases += [((dtype,), (1,)) for dtype in ("int64", "bool")]
    cases += [(("string", "string"), pair) for pair in (("a", "bc"), ("ab", "c"), ("", "abc"))]
    cases += [(("int64", "string"), (1, "1")), (("string", "int64"), ("1", 1))]
    cases += [(("date",), (days,)), (("datetime",), (moment,)), ((), ())]
    keys = set()
    for dtypes, values in cases:
        columns = tuple(Column(name=f"k{at}", dtype=dtype) for at, dtype in enumerate(dtypes))
        frame = frame_of(columns, [values]) if columns else pl.DataFrame({"other": [0]})
        keys.update(canonical_keys(frame, columns))
    assert len(keys) == len(cases)


@given(
    st.integers(0, 120).flatmap(
        lambda size: st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=12)
    )
)
def test_the_hash_of_rows_is_xxhash64(data: list[bytes]) -> None:
    """Each row's hash is the one that the library gives it as bytes."""
    rows = np.frombuffer(b"".join(data), np.uint8).reshape(len(data), -1)
    assert hash_rows(rows).tolist() == [xxhash.xxh64_intdigest(cell) for cell in data]


@given(keyed(), st.sampled_from([1, 2, 8, 64]))
def test_a_bucket_depends_on_the_key_alone(
    drawn: tuple[tuple[Column, ...], list[tuple[object, ...]]], buckets: int
) -> None:
    """A row's bucket is in range and the same whatever rows stand beside it."""
    columns, rows = drawn
    frame = frame_of(columns, rows)
    found = bucket_of(frame, columns, buckets).to_list()
    alone = [bucket_of(frame[at], columns, buckets)[0] for at in range(len(rows))]
    assert found == alone
    assert max(found) < buckets


@settings(max_examples=50)
@given(keyed(), st.sampled_from([1, 2, 8, 64, 1 << 31]), st.integers(1, 30))
def test_a_bucket_is_the_last_bits_of_the_canonical_keys_hash(
    drawn: tuple[tuple[Column, ...], list[tuple[object, ...]]], buckets: int, times: int
) -> None:
    """The reference hash of the canonical key says the bucket; a row with a null key is in 0."""
    columns, rows = drawn
    frame = frame_of(columns, rows * times)
    expected = [
        0 if key is None else xxhash.xxh64_intdigest(key) & (buckets - 1)
        for key in canonical_keys(frame, columns)
    ]
    assert bucket_of(frame, columns, buckets).to_list() == expected


def test_buckets_of_many_rows_are_those_of_each() -> None:
    """More rows than are hashed at once have the buckets of their keys, nulls too."""
    columns = (Column(name="number", dtype="int64"), Column(name="text", dtype="string"))
    numbers = pl.int_range(-35_000, 35_000, eager=True)
    frame = pl.DataFrame({"number": numbers}).with_columns(
        text=pl.when(pl.col("number") % 7 != 0).then(
            pl.lit("é").repeat_by(pl.col("number").abs() % 50).list.join("")
        )
    )
    keys = canonical_keys(frame, columns)
    expected = [0 if key is None else xxhash.xxh64_intdigest(key) % 1024 for key in keys]
    assert bucket_of(frame, columns, 1024).to_list() == expected


@given(st.lists(st.binary(max_size=60), unique=True, max_size=20))
def test_a_redis_key_is_of_one_table_only(canonical: list[bytes]) -> None:
    """Redis keys are distinct, and only their own project and table claim them."""
    keys = redis_keys("prod", TABLE, canonical)
    assert len(set(keys)) == len(keys)
    assert keys_of([*keys, b"", b"{}"], "prod", TABLE) == keys
    for place in [("nonprod", TABLE), ("prod", "7f3a9c1e04b2aa10.1"), ("pro", TABLE)]:
        assert keys_of(keys, *place) == []


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=20))
def test_all_tables_of_an_entity_share_a_slot(canonical: list[bytes]) -> None:
    """The hash tag depends on the canonical key alone, and holds 16 hex digits only."""
    one = [key[:18] for key in redis_keys("prod", TABLE, canonical)]
    two = [key[:18] for key in redis_keys("other", "00000000000000ff.3", canonical)]
    digests = [xxhash.xxh64_hexdigest(key) for key in canonical]
    assert one == two == [f"{{{digest}}}".encode() for digest in digests]
