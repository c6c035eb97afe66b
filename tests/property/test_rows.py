"""The laws of packed rows."""

import struct
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.model.schema import NUMBERS, SCALARS, Column, parse_dtype
from featurestore.storage.rows import HEADER_BYTES, RowLayout

DTYPES = (
    *SCALARS,
    *(f"list[{name}]" for name in sorted(NUMBERS)),
    *(f"array[{name},{width}]" for name, width in zip(sorted(NUMBERS), range(1, 20), strict=False)),
    "array[float64,0]",
)
FLOAT64 = (0x7FF8000000000001, 0xFFF8000000000123, 0x7FF4000000000001, 1 << 63, 0, 0x7FF << 52)
FLOAT32 = (0x7FC00001, 0xFFC00123, 0x7FA00001, 1 << 31, 0, 0x7F800000)
MOMENT = st.integers(-(2**63) + 1, 2**63 - 1)
TEXT = st.sampled_from(["", "\0", "é", "e\u0301", "🛬", "x" * 5000]) | st.text(max_size=20)


def cells(dtype: str) -> st.SearchStrategy[Any]:
    """Give the values of a scalar dtype as NumPy would hold them: floats by their bits."""
    match dtype:
        case "bool":
            return st.booleans()
        case "string":
            return TEXT
        case "float64":
            return st.sampled_from(FLOAT64) | st.integers(0, 2**64 - 1)
        case "float32":
            return st.sampled_from(FLOAT32) | st.integers(0, 2**32 - 1)
    low, high = {"date": (-(2**31), 2**31 - 1), "datetime": (-(2**63), 2**63 - 1)}.get(dtype) or (
        np.iinfo(dtype).min,
        np.iinfo(dtype).max,
    )
    return st.sampled_from([low, -1 if low else 1, 0, high]) | st.integers(low, high)


def series_of(values: list[Any], dtype: str) -> pl.Series:
    """Give drawn cells as a series of the dtype; floats from their bits, nulls as nulls."""
    if dtype in ("float32", "float64"):
        bits = np.array([value or 0 for value in values], f"u{int(dtype[5:]) // 8}")
        null = pl.Series([value is None for value in values], dtype=pl.Boolean)
        return pl.select(pl.when(~null).then(pl.Series(bits.view(dtype)))).to_series()
    kind = SCALARS[dtype]
    physical = {"date": pl.Int32(), "datetime": pl.Int64()}.get(dtype, kind)
    return pl.Series(values, dtype=physical).cast(kind)


@st.composite
def columns_of(draw: st.DrawFn, dtype: str, rows: int) -> pl.Series:
    """Draw a column of any dtype."""
    kind = parse_dtype(dtype)
    if isinstance(kind, pl.List | pl.Array):
        inner = dtype.partition("[")[2].rstrip("]").partition(",")[0]
        size = 7 if isinstance(kind, pl.List) else kind.size
        least = 0 if isinstance(kind, pl.List) else size
        drawn = st.lists(st.none() | cells(inner), min_size=least, max_size=size)
        values = draw(st.lists(st.none() | drawn, min_size=rows, max_size=rows))
        flat = series_of([cell for value in values for cell in value or ()], inner)
        ends = np.cumsum([len(value or ()) for value in values], dtype=int).tolist()
        cut = [
            None if value is None else flat[end - len(value) : end]
            for value, end in zip(values, ends, strict=True)
        ]
        return pl.Series(cut, dtype=pl.List(kind.inner)).cast(kind)
    return series_of(draw(st.lists(st.none() | cells(dtype), min_size=rows, max_size=rows)), dtype)


@st.composite
def frames(draw: st.DrawFn) -> tuple[RowLayout, pl.DataFrame]:
    """Draw a layout and a frame of it."""
    dtypes = draw(st.lists(st.sampled_from(DTYPES), max_size=6))
    rows = draw(st.integers(0, 6))
    columns = tuple(Column(name=f"c{at}", dtype=dtype) for at, dtype in enumerate(dtypes))
    layout = RowLayout(columns)
    series = [draw(columns_of(dtype, rows)).alias(f"c{at}") for at, dtype in enumerate(dtypes)]
    return layout, pl.DataFrame(series) if series else pl.DataFrame(height=rows)


def bits(frame: pl.DataFrame) -> list[Any]:
    """Give a frame's values with floats as hex of their bits, so that NaN compares by payload."""

    def plain(value: Any, dtype: pl.DataType) -> Any:
        if isinstance(value, list):
            inner = dtype.inner  # type: ignore[attr-defined]
            return [plain(cell, inner) for cell in value]
        return struct.pack("<d", value).hex() if isinstance(value, float) else value

    columns = []
    for series in frame:
        kind = series.dtype
        if kind == pl.Float32:
            view = series.fill_null(0).to_numpy().view("u4").tolist()
            columns.append([(a, b) for a, b in zip(view, series.is_null(), strict=True)])
        elif kind in (pl.Datetime, pl.Date):
            columns.append(series.to_physical().to_list())
        else:
            columns.append([plain(value, kind) for value in series.to_list()])
    return columns


def stamps(rows: int, start: int = 0) -> pl.Series:
    """Give increasing event times."""
    return pl.Series(np.arange(start, start + rows), dtype=pl.Int64)


@settings(max_examples=120)
@given(frames())
def test_a_row_reads_back_bit_for_bit(drawn: tuple[RowLayout, pl.DataFrame]) -> None:
    """Every dtype comes back with its dtype, nulls, NaN payloads, signed zeros and lengths."""
    layout, frame = drawn
    decoded = layout.decode(layout.encode(frame, stamps(frame.height), None, 3))
    assert decoded.present.all()
    assert not decoded.tombstone.any()
    assert decoded.event_time.tolist() == list(range(frame.height))
    assert not decoded.created[1].any()
    assert decoded.revision.tolist() == [3] * frame.height
    if layout.columns:
        assert decoded.frame().schema == frame.schema
        assert bits(decoded.frame()) == bits(frame)


@settings(max_examples=100)
@given(frames(), st.data())
def test_absent_rows_and_tombstones_read_as_null(
    drawn: tuple[RowLayout, pl.DataFrame], data: st.DataObject
) -> None:
    """Rows that are absent or tombstones have no value, and leave the others as they are."""
    layout, frame = drawn
    count = frame.height
    kinds = data.draw(st.lists(st.sampled_from("vta"), min_size=count, max_size=count))
    values = layout.encode(frame, stamps(count), None, 0)
    stones = layout.tombstones(stamps(count), None, 0)
    rows = [
        {"v": value, "t": stone, "a": None}[kind]
        for kind, value, stone in zip(kinds, values, stones, strict=True)
    ]
    decoded = layout.decode(rows)
    assert decoded.present.tolist() == [kind != "a" for kind in kinds]
    assert decoded.tombstone.tolist() == [kind == "t" for kind in kinds]
    if layout.columns and count:
        kept = pl.Series([kind == "v" for kind in kinds])
        expected = frame.select(pl.when(kept).then(pl.all()))
        assert bits(decoded.frame()) == bits(expected)


@given(frames(), st.randoms(use_true_random=False))
def test_the_order_of_columns_and_rows_changes_no_byte(
    drawn: tuple[RowLayout, pl.DataFrame], random: Any
) -> None:
    """A row's bytes depend on its values alone, not on its neighbours or the columns' order."""
    layout, frame = drawn
    columns = list(layout.columns)
    random.shuffle(columns)
    rows = layout.encode(frame, stamps(frame.height), None, 0)
    assert RowLayout(tuple(columns)).encode(frame, stamps(frame.height), None, 0) == rows
    alone = [layout.encode(frame[at], stamps(1, at), None, 0)[0] for at in range(frame.height)]
    assert alone == rows


@given(
    st.lists(
        st.tuples(MOMENT, st.none() | MOMENT, st.integers(0, 2**32 - 1), st.booleans()), max_size=20
    )
)
def test_headers_compare_as_event_created_revision_kind(
    moments: list[tuple[int, int | None, int, bool]],
) -> None:
    """Bytes of headers sort as their fields do, a null created time lowest, tombstones first."""
    layout = RowLayout(())
    events = pl.Series([moment[0] for moment in moments], dtype=pl.Int64)
    created = pl.Series([moment[1] for moment in moments], dtype=pl.Int64)
    revision = pl.Series([moment[2] for moment in moments], dtype=pl.UInt32)
    values = layout.encode(pl.DataFrame(height=len(moments)), events, created, revision)
    stones = layout.tombstones(events, created, revision)
    rows = [v if m[3] else t for v, t, m in zip(values, stones, moments, strict=True)]
    assert all(len(row) == HEADER_BYTES for row in rows)
    expected = sorted(moments, key=lambda m: (m[0], m[1] is not None, m[1] or 0, m[2], m[3]))
    places = sorted(range(len(rows)), key=rows.__getitem__)
    assert [moments[place] for place in places] == expected
    decoded = layout.decode(rows)
    assert decoded.event_time.tolist() == events.to_list()
    times, there = decoded.created
    assert [
        time if known else None for time, known in zip(times.tolist(), there, strict=True)
    ] == created.to_list()
    assert decoded.revision.tolist() == revision.to_list()
