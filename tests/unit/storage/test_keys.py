"""Unit tests of key casting and naming."""

from datetime import UTC, datetime

import polars as pl
import pytest

from featurestore.errors import InvalidRequest
from featurestore.model.schema import Column
from featurestore.storage.keys import (
    bucket_of,
    canonical_keys,
    cast_keys,
    keys_of,
    redis_keys,
    table_prefix,
)

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
TABLE = "7f3a9c1e04b2aa10.0"


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("int64", pl.Series([1.0, None, float("nan")]), [1, None, None]),
        ("int32", pl.Series([7], dtype=pl.Int64), [7]),
        ("uint8", pl.Series([255], dtype=pl.UInt64), [255]),
        ("int64", pl.Series([16777215.0], dtype=pl.Float32), [16777215]),
        ("int64", pl.Series([None, None]), [None, None]),
        ("string", pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
        ("string", pl.Series(["a"], dtype=pl.Enum(["a", "b"])), ["a"]),
        ("datetime", pl.Series([NOON.replace(tzinfo=None)]), [NOON]),
        ("datetime", pl.Series([NOON.replace(tzinfo=None)], dtype=pl.Datetime("ns")), [NOON]),
        ("datetime", pl.Series([NOON]).dt.convert_time_zone("America/New_York"), [NOON]),
    ],
)
def test_a_cast_keeps_the_meaning(dtype: str, given: pl.Series, expected: list[object]) -> None:
    """Columns that mean the declared key become it; nulls stay null."""
    column = Column(name="k", dtype=dtype)
    cast = cast_keys(pl.DataFrame({"k": given, "other": given}), (column,), "request")
    assert cast.schema["k"] == column.polars
    assert cast["k"].to_list() == expected
    assert cast.schema["other"] == given.dtype


@pytest.mark.parametrize(
    ("dtype", "given", "why"),
    [
        ("int64", pl.Series(["1"]), "its dtype is String"),
        ("string", pl.Series([1]), "its dtype is Int64"),
        ("int8", pl.Series([300]), "a value does not fit int8"),
        ("uint32", pl.Series([-1.0]), "a value does not fit uint32"),
        ("int64", pl.Series([1.5]), "a Float64 value is not an integer below 9007199254740992"),
        ("int64", pl.Series([2.0**53]), "a Float64 value is not an integer"),
        ("int64", pl.Series([float("inf")]), "a Float64 value is not an integer"),
        ("bool", pl.Series([1]), "its dtype is Int64"),
        ("int64", pl.Series([True]), "its dtype is Boolean"),
        ("date", pl.Series([NOON]), "its dtype is Datetime"),
        ("datetime", pl.Series([1], dtype=pl.Int64), "its dtype is Int64"),
        ("datetime", pl.Series([1]).cast(pl.Datetime("ns")), "a value has nanoseconds"),
    ],
)
def test_a_key_of_another_dtype_is_refused(dtype: str, given: pl.Series, why: str) -> None:
    """Anything else is refused, and the message says where, why and the way out."""
    column = Column(name="k", dtype=dtype)
    with pytest.raises(InvalidRequest) as caught:
        cast_keys(pl.DataFrame({"k": given}), (column,), "get_online_features.entities")
    message = str(caught.value)
    assert message.startswith(f"get_online_features.entities.k: the key is declared {dtype}, but")
    assert why in message
    assert "cast the column to" in message


def test_a_missing_key_column_is_named_with_a_guess() -> None:
    """A missing column is an error that names it and the closest column there is."""
    with pytest.raises(InvalidRequest, match=r"request\.tailnum: .* did you mean 'tailnumb'"):
        cast_keys(
            pl.DataFrame({"tailnumb": ["a"]}), (Column(name="tailnum", dtype="string"),), "request"
        )


def test_keys_of_no_entity_are_one_key() -> None:
    """An entity-less view has the same key in every row."""
    assert canonical_keys(pl.DataFrame({"x": [1, 2]}), ()) == [b"\0", b"\0"]


def test_all_integer_widths_are_one_key() -> None:
    """A key keeps its canonical key when a source widens its integer."""
    dtypes = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
    columns = [Column(name="k", dtype=dtype) for dtype in dtypes]
    frames = [pl.DataFrame({"k": pl.Series([1, 100], dtype=column.polars)}) for column in columns]
    keys = [canonical_keys(f, (column,)) for f, column in zip(frames, columns, strict=True)]
    assert keys == [keys[0]] * len(dtypes)


def test_the_encoding_is_golden() -> None:
    """The bytes, hash tag and bucket of a key never change: data is stored under them."""
    columns = (Column(name="day", dtype="date"), Column(name="plane", dtype="string"))
    frame = pl.DataFrame({"plane": ["N14228"], "day": [NOON.date()]})
    keys = canonical_keys(frame, columns)
    assert keys == [bytes.fromhex("02645a3d000073060000004e3134323238")]
    assert (
        redis_keys("prod", TABLE, [b"\0"])[0]
        == b"{e934a84adb052768}fs1/prod/" + TABLE.encode() + b"/\0"
    )
    assert bucket_of(frame, columns, 1024).to_list() == [57]


@pytest.mark.parametrize("name", ["", "a/b", "a b", "{a}", "pr*d", "é", "a\n"])
def test_a_project_name_cannot_reach_beyond_its_keys(name: str) -> None:
    """Characters that could act as a separator or a pattern are refused."""
    with pytest.raises(InvalidRequest, match="project name"):
        table_prefix(name, TABLE)


@pytest.mark.parametrize("table", ["", "*", "7f3a9c1e04b2aa10", "7f3a9c1e04b2aa1.0", "x.0"])
def test_a_table_id_is_hex_and_generation(table: str) -> None:
    """A table id that is not one is refused."""
    with pytest.raises(InvalidRequest, match="table id"):
        table_prefix("prod", table)


def test_a_key_with_a_forged_tag_is_not_ours() -> None:
    """A key whose hash tag is not its canonical key's hash belongs to nobody."""
    forged = b"{0000000000000000}" + table_prefix("prod", TABLE) + b"x"
    assert keys_of([forged], "prod", TABLE) == []


def test_buckets_are_a_power_of_two() -> None:
    """Any other number of buckets is refused."""
    with pytest.raises(ValueError, match="power of two"):
        bucket_of(pl.DataFrame({"k": [1]}), (Column(name="k", dtype="int64"),), 3)


def test_rows_with_a_null_key_have_a_bucket() -> None:
    """A null key does not lose its row: it goes to bucket 0."""
    frame = pl.DataFrame({"k": pl.Series([None, None], dtype=pl.Int64)})
    assert bucket_of(frame, (Column(name="k", dtype="int64"),), 8).to_list() == [0, 0]
