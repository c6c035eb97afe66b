"""The laws of answers in a caller's hands, over random columns of every dtype."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.serving.client.response import Reader, read_response
from featurestore.serving.message import twin
from featurestore.serving.message.columns import arrays, series
from featurestore.serving.message.wire import grid_of, put, series_of
from tests.columns import DTYPES, bits, columns

HOUR = 3_600_000_000


def answer(columns: list[pl.Series], dtype: str, *, view: str = "view", release: int = 1) -> bytes:
    """Give the bytes of an answer of one view, an hour old."""
    message = twin.GetOnlineFeaturesResponse(
        names=[f"{view}_{number}" for number in range(len(columns))],
        output_projections=[0] * len(columns),
        count=len(columns[0]),
        release=release,
        as_of=2 * HOUR,
        statuses=b"\x01" * len(columns[0]),
        event_times=np.full(len(columns[0]), HOUR, "<i8").tobytes(),
    )
    message.projections.add(alias=view, view=view, version="v" * 64)
    block = message.blocks.add(outputs=range(len(columns)))
    put(grid_of(columns, dtype), block.values)
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_a_blocks_columns_are_each_what_it_is_alone(dtype: str, data: st.DataObject) -> None:
    """Cut from one series, or as masked arrays, columns are what they would be one by one."""
    rows = data.draw(st.integers(1, 9))
    several = [data.draw(columns(dtype, rows)) for _ in range(data.draw(st.integers(1, 3)))]
    grid = grid_of(several, dtype)
    for number, (one, array) in enumerate(zip(series(grid), arrays(grid), strict=True)):
        alone = series_of(grid, number, "")
        assert bits(one) == bits(alone) == bits(several[number].alias(""))
        assert array.shape[0] == rows
        assert repr(_listed(array)) == repr(_plain(alone))


def _listed(array: Any) -> list[Any]:
    """Give the values of a masked array, and of the arrays that lists are in it."""
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in array.tolist()]


def _plain(column: pl.Series) -> list[Any]:
    """Give Python's values; a moment is UTC without saying so, a null array one of nulls."""
    if isinstance(column.dtype, pl.Datetime):
        return column.dt.replace_time_zone(None).to_list()
    found = column.to_list()
    if isinstance(column.dtype, pl.Array):
        return [[None] * column.dtype.size if one is None else one for one in found]
    return found


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_remembered_beginning_changes_no_answer(data: st.DataObject) -> None:
    """Whatever a reader read before, of whatever views and releases, an answer reads the same."""
    reader = Reader()
    for _ in range(6):
        rows, wide = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        several = [data.draw(columns("string", rows)) for _ in range(wide)]
        view, release = data.draw(st.sampled_from("abc")), data.draw(st.integers(1, 2))
        raw = answer(several, "string", view=view, release=release)
        found, expected = reader(raw, pl.DataFrame()), read_response(raw, pl.DataFrame())
        assert found.head == expected.head
        assert found.to_polars().equals(expected.to_polars())
        assert (found.statuses, found.ages) == (expected.statuses, expected.ages)
        assert found.release == release
