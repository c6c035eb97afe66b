"""Unit tests of packed rows: their exact bytes, what a reader is handed, what is refused."""

import numpy as np
import polars as pl
import pytest

from featurestore.errors import CorruptData
from featurestore.model.schema import Column
from featurestore.storage.rows import HEADER_BYTES, RowLayout

COLUMNS = (
    Column(name="name", dtype="string"),
    Column(name="late", dtype="bool"),
    Column(name="b", dtype="float32"),
    Column(name="a", dtype="float32"),
    Column(name="at", dtype="list[int16]"),
    Column(name="pair", dtype="array[int8,2]"),
)
LAYOUT = RowLayout(COLUMNS)
FRAME = pl.DataFrame(
    {
        "name": ["é", None],
        "late": [True, None],
        "b": [2.0, None],
        "a": [1.0, -0.0],
        "at": [[1, None], []],
        "pair": [[None, -1], None],
    },
    schema={column.name: column.polars for column in COLUMNS},
)
EVENT = pl.Series([0, -1], dtype=pl.Int64)
CREATED = pl.Series([1, None], dtype=pl.Int64)
ROWS = LAYOUT.encode(FRAME, EVENT, CREATED, 7)


def test_the_bytes_of_a_row_are_golden() -> None:
    """The format never changes under its number: rows in Redis outlive the program."""
    assert ROWS[0].hex(" ") == (
        "01 80 00 00 00 00 00 00 00 80 00 00 00 00 00 00 01 00 00 00 07 01 "  # header
        "3f "  # valid: pair, late, a, b, at, name
        "00 ff 02 01 00 00 80 3f 00 00 00 40 "  # pair and its bitmap, late, a, b
        "07 00 00 00 02 00 00 00 "  # lengths
        "01 01 00 00 00 01 00 c3 a9"  # at: flag, elements, validity; name
    )
    assert ROWS[1].hex(" ") == (
        "01 7f ff ff ff ff ff ff ff 00 00 00 00 00 00 00 00 00 00 00 07 01 "
        "14 00 00 00 00 00 00 00 80 00 00 00 00 01 00 00 00 00 00 00 00 00"
    )


def test_a_tombstone_has_a_header_and_no_values() -> None:
    """A tombstone sorts just below a value of the same times and decodes to nulls."""
    stone = LAYOUT.tombstones(EVENT[:1], CREATED[:1], 7)[0]
    assert stone[: HEADER_BYTES - 1] == ROWS[0][: HEADER_BYTES - 1]
    assert not any(stone[HEADER_BYTES - 1 :])
    assert stone < ROWS[0]


def test_a_group_holds_all_columns_of_a_dtype() -> None:
    """A reader gets one array per dtype, in the rows' own memory, with null slots zero."""
    decoded = LAYOUT.decode([*ROWS, None])
    groups = {group.dtype: group for group in map(decoded.group, range(len(LAYOUT.blocks)))}
    assert list(groups) == ["array[int8,2]", "bool", "float32"]
    floats = groups["float32"]
    assert floats.names == ("a", "b")
    assert floats.values.tolist() == [[1.0, 2.0], [-0.0, 0.0], [0.0, 0.0]]
    assert np.shares_memory(floats.values, decoded.heads)
    assert floats.valid.tolist() == [[True, True], [True, False], [False, False]]
    assert floats.inner_valid is None
    pairs = groups["array[int8,2]"]
    assert pairs.values.tolist() == [[[0, -1]], [[0, 0]], [[0, 0]]]
    assert pairs.inner_valid is not None
    assert pairs.inner_valid.tolist() == [[[False, True]], [[False, False]], [[False, False]]]
    assert groups["bool"].values.dtype == np.bool_


def test_a_column_is_a_series_of_its_dtype() -> None:
    """Whatever its width, null where it has no value; in company of nulls or not."""
    decoded = LAYOUT.decode([*ROWS, None])
    assert decoded.series("b").to_list() == [2.0, None, None]
    assert decoded.series("name").to_list() == ["é", None, None]
    assert decoded.series("at").to_list() == [[1, None], [], None]
    whole = LAYOUT.decode(ROWS[:1])
    assert whole.series("b").equals(decoded.series("b")[:1])
    assert decoded.frame().columns == [column.name for column in LAYOUT.columns]
    with pytest.raises(KeyError):
        decoded.series("nope")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"", "shorter"),
        (ROWS[0][:30], "shorter"),
        (ROWS[0][:-1], "length"),
        (ROWS[0] + b"\0", "length"),
        (b"\2" + ROWS[0][1:], "format"),
        (ROWS[0][:21] + b"\7" + ROWS[0][22:], "tombstone"),
        (ROWS[0].replace(b"\xc3\xa9", b"\xff\xff"), "UTF-8"),
        (ROWS[0].replace(b"\7\0\0\0\2\0\0\0", b"\6\0\0\0\3\0\0\0"), "list"),
        (ROWS[0].replace(bytes.fromhex("01010000000100"), b"\2" + bytes(6)), "list"),
    ],
)
def test_a_damaged_row_is_refused_without_its_content(row: bytes, why: str) -> None:
    """A row that was not written by this layout is an error, never a number."""
    with pytest.raises(CorruptData, match=why) as caught:
        LAYOUT.decode([ROWS[1], None, row]).frame()
    assert "rebuild" in str(caught.value)


def test_a_row_of_fixed_columns_has_one_length() -> None:
    """Without variable columns any other length is refused."""
    layout = RowLayout((Column(name="a", dtype="int64"),))
    (row,) = layout.encode(pl.DataFrame({"a": [1]}), EVENT[:1], None, 0)
    for wrong in (row + b"\0", row[:-1]):
        with pytest.raises(CorruptData):
            layout.decode([row, wrong])


def test_a_frame_of_another_dtype_is_refused() -> None:
    """Nothing is cast on the way into a row."""
    layout = RowLayout((Column(name="a", dtype="int64"),))
    with pytest.raises(ValueError, match="a: is Int32, but rows hold int64"):
        layout.encode(pl.DataFrame({"a": [1]}, schema={"a": pl.Int32}), EVENT[:1], None, 0)


def test_a_row_needs_an_event_time() -> None:
    """A null event time has no place in the order of rows."""
    with pytest.raises(ValueError, match="event time is null"):
        RowLayout(()).tombstones(pl.Series([None], dtype=pl.Int64), None, 0)


def test_two_columns_of_one_name_are_refused() -> None:
    """A layout's columns are told apart by name."""
    with pytest.raises(ValueError, match="share a name"):
        RowLayout((Column(name="a", dtype="int64"), Column(name="a", dtype="bool")))


def test_no_rows_give_an_empty_frame() -> None:
    """Nothing in, nothing out, with every dtype in place."""
    assert LAYOUT.encode(FRAME[:0], EVENT[:0], CREATED[:0], 0) == []
    assert LAYOUT.decode([]).frame().schema == FRAME.schema
