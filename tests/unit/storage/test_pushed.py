"""The log of pushed rows: a Delta table appended to, read at versions, a source's rows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from featurestore.errors import SourceError
from featurestore.model.declare.windows import Aggregate
from featurestore.model.time import BEGINNING, MOMENT, Interval, micros, normalize_schema
from featurestore.model.windows import HOUR
from featurestore.storage.pushed import NONE, Roots
from featurestore.storage.sources import NOW, Pin, extent, raw_rows
from featurestore.storage.view_source import ViewSource, fingerprint
from tests.declared import source, view

T0 = datetime(2024, 3, 1, tzinfo=UTC)
ALL = Interval(start=BEGINNING, end=micros(T0 + timedelta(days=9)))
SCHEMA = {
    "plane": pl.String(),
    "at": MOMENT,
    "seats": pl.UInt8(),
    "wide": pl.UInt32(),
    "day": pl.Date(),
    "shape": pl.Array(pl.Float64(), 2),
    "parts": pl.List(pl.UInt16()),
}
NAMES = ("seats", "wide", "day", "shape", "parts")


def rows(*planes, hours=0):
    """Give a row of each plane, some hours after the tests' first moment."""
    found = [
        (plane, T0 + timedelta(hours=hours), 255, 2**32 - 1, T0.date(), [0.5, None], [65535, None])
        for plane in planes
    ]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def landings(**changes):
    """Declare a view that reads every column of a source that rows are pushed to."""
    described = source(columns=normalize_schema(SCHEMA), pushed=True)
    features = {name: pl.col(name) for name in NAMES}
    return view(**{"source": described, "features": features} | changes)


def roots_of(folder, frame=None):
    """Write a source's file, and say where it and the logs lie."""
    (folder / "data").mkdir(exist_ok=True)
    (rows("a", "b") if frame is None else frame).write_parquet(folder / "data/landings.parquet")
    return Roots(repo=folder, pushed=str(folder / "off line/_pushed"))


def planes(found):
    """Give the planes of raw rows, sorted."""
    return sorted(found["__key_plane"].to_list())


def test_pushed_rows_are_rows_of_the_source(tmp_path):
    """Rows of the file and of its log come back alike, in every dtype."""
    roots = roots_of(tmp_path)
    one = landings()
    before = raw_rows(one, roots, ALL)
    log = roots.log_of(one)
    assert log.append(rows("c", hours=1)) == 1
    assert log.append(rows("d", "e", hours=2)) == 2
    found = raw_rows(one, roots, ALL)
    assert found.schema == before.schema
    assert planes(found) == ["a", "b", "c", "d", "e"]
    together = roots_of(tmp_path / "..", pl.concat([rows("a", "b"), rows("c", hours=1)]))
    expected = raw_rows(one, Roots(repo=together.repo), ALL)
    assert_frame_equal(raw_rows(one, roots, ALL, Pin(pushed=1)), expected, check_row_order=False)
    assert extent(one, roots, ALL.end) == (5, 2 * HOUR)


def test_a_source_is_read_at_the_version_its_log_had(tmp_path):
    """Rows pushed while a run reads are the next run's, and change the state that it sees."""
    roots = roots_of(tmp_path)
    one = landings()
    opened = ViewSource(one, roots)
    assert roots.log_of(one).state()[0] == NONE
    roots.log_of(one).append(rows("c"))
    pushed = ViewSource(one, roots)
    roots.log_of(one).append(rows("d"))
    assert planes(opened.scan(ALL)) == ["a", "b"]
    assert planes(pushed.scan(ALL)) == ["a", "b", "c"]
    states = {opened.state, pushed.state, ViewSource(one, roots).state}
    assert len(states) == 3
    assert all(0 < len(state) <= 64 for state in states)
    assert pushed.still() == pushed.state
    edges = [micros(T0 + timedelta(hours=n)) - 1 for n in range(3)]
    parts = [Interval(start=start, end=end) for start, end in pairwise(edges)]
    assert pushed.fingerprint(parts).reads == fingerprint(pushed.scan(ALL), parts)
    assert pushed.counts(parts) == (3, 0)


def test_a_column_that_came_later_is_null_before(tmp_path):
    """A log takes columns that its source gained, and keeps those that it lost."""
    roots = roots_of(tmp_path, rows("a"))
    log = roots.log("landings")
    log.append(rows("b").drop("seats", "shape"))
    log.append(rows("c"))
    log.append(rows("d").drop("wide"))
    found = raw_rows(landings(), roots, ALL, NOW).sort("__key_plane")
    assert found["seats"].to_list() == [255, None, 255, 255]
    assert found["shape"].to_list() == [[0.5, None], None, [0.5, None], [0.5, None]]
    assert found["wide"].to_list() == [2**32 - 1] * 3 + [None]


def test_a_column_of_another_dtype_is_refused_before_it_is_written(tmp_path):
    """What a log cannot hold is named, and nothing of the push is committed."""
    log = roots_of(tmp_path).log("landings")
    log.append(rows("a"))
    with pytest.raises(SourceError, match=r"landings.wide: the log .* holds Int64, and rows are"):
        log.append(rows("b").with_columns(wide=pl.lit("x")))
    assert log.state()[0] == 1


def test_appends_at_once_all_stay(tmp_path):
    """Those who push at the same time, the first push among them, are in nobody's way."""
    roots = roots_of(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: roots.log("landings").append(rows(f"p{n}")), range(8)))
    assert len(planes(raw_rows(landings(), roots, ALL))) == 10


def test_a_compacted_log_says_the_same(tmp_path):
    """Many small files become one; old versions are still read."""
    roots = roots_of(tmp_path)
    one, log = landings(), roots.log("landings")
    for n in range(4):
        log.append(rows(f"p{n}"))
    before = raw_rows(one, roots, ALL)
    assert not log.compact()
    assert log.compact(many=4)
    assert not log.compact(many=4)
    assert_frame_equal(raw_rows(one, roots, ALL), before, check_row_order=False)
    assert planes(raw_rows(one, roots, ALL, Pin(pushed=2))) == ["a", "b", "p0", "p1"]


def test_a_log_is_not_read_where_every_row_is_an_event(tmp_path):
    """A view whose windows have no event id would count a row that was pushed and landed twice."""
    roots = roots_of(tmp_path)
    roots.log("landings").append(rows("a"))
    seen = Aggregate(function="count", of=None, filter=None, length="7d", every=None)
    features = {"seen": seen}
    numbered = landings(features=features, event_id="wide")
    assert planes(raw_rows(numbered, roots, ALL)) == ["a", "a", "b"]
    every = landings(features=features)
    assert planes(raw_rows(every, roots, ALL)) == ["a", "b"]
    assert ViewSource(every, roots).state == ViewSource(every, Roots(repo=tmp_path)).state


@pytest.mark.parametrize("name", ["a%41b", "a/../b", "[x]", "..", "a b", "ünï"])
def test_a_log_lies_in_a_folder_of_its_own_whatever_its_source_is_called(tmp_path, name):
    """Names that lead elsewhere, or that Delta would decode, get a folder's name all the same."""
    root = tmp_path / "pushed"
    roots = Roots(repo=tmp_path, pushed=str(root))
    roots.log(name).append(rows("a"))
    roots.log("other").append(rows("b"))
    assert roots.log(name).scan().collect()["plane"].to_list() == ["a"]
    assert len(list(root.iterdir())) == 2
