"""The state of a source and the digests of its rows, over real Parquet files and Delta tables."""

import os
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from featurestore.model.time import BEGINNING, MOMENT, Interval, micros, normalize_schema
from featurestore.storage.pushed import Roots
from featurestore.storage.view_source import ViewSource, fingerprint
from tests.declared import source, view

T0 = datetime(2024, 3, 1, tzinfo=UTC)
ALL = Interval(start=BEGINNING, end=micros(T0 + timedelta(days=9)))
SCHEMA = {
    "plane": pl.String(),
    "at": MOMENT,
    "delay": pl.Float64(),
    "seats": pl.UInt8(),
    "parts": pl.List(pl.Float32()),
    "shape": pl.Array(pl.Float64(), 2),
}
ROWS = [
    ("a", T0 + timedelta(hours=n), float(n), n, [0.5, None], [float(n), 0.0]) for n in range(20)
] + [("b", T0 + timedelta(hours=30), None, None, None, None)]
FRAME = pl.DataFrame(ROWS, schema=SCHEMA, orient="row")
EDGES = [micros(T0 + timedelta(hours=n)) - 1 for n in range(0, 37, 6)]
PARTS = [Interval(start=start, end=end) for start, end in pairwise(EDGES)]


def landings(path="data/landings.parquet", kind="parquet", schema=None, **changes):
    """Declare a view that reads every column, of a Delta table one."""
    described = source(path=path, format=kind, columns=normalize_schema(schema or SCHEMA))
    names = ("delay",) if kind == "delta" else ("delay", "seats", "parts", "shape")
    features = {name: pl.col(name) for name in names}
    return view(**{"source": described, "features": features} | changes)


def written(root, frame=FRAME, name="landings.parquet"):
    """Write a frame below the root's data folder."""
    (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / "data" / name)
    return root


def reads(root, frame, made=None):
    """Give what a file of a frame holds in each of six hours."""
    return ViewSource(made or landings(), Roots(repo=written(root, frame))).fingerprint(PARTS).reads


def test_a_scan_and_a_fingerprint_digest_the_same(tmp_path):
    """What a run read is what the source is found to hold, whichever way it is read."""
    opened = ViewSource(landings(), Roots(repo=written(tmp_path)))
    found = opened.fingerprint(PARTS)
    assert found.reads == fingerprint(opened.scan(ALL), PARTS)
    assert [one.rows for one in found.reads] == [6, 6, 6, 2, 0, 1]
    assert found.first == micros(T0)


def test_no_order_and_no_split_of_rows_changes_a_digest(tmp_path):
    """Shuffled rows in small row groups are the same rows."""
    before = reads(tmp_path, FRAME)
    FRAME.sample(fraction=1, shuffle=True, seed=1).write_parquet(
        tmp_path / "data" / "landings.parquet", row_group_size=2
    )
    assert ViewSource(landings(), Roots(repo=tmp_path)).fingerprint(PARTS).reads == before


CHANGES = {
    "a value": pl.col("delay").replace(3.0, 7.5),
    "the sign of a zero": pl.when(delay=0.0).then(-0.0).otherwise("delay").alias("delay"),
    "a zero in a list": pl.when(seats=3)
    .then(pl.lit([-0.0], pl.List(pl.Float32)))
    .when(seats=4)
    .then(pl.lit([0.0], pl.List(pl.Float32)))
    .otherwise("parts")
    .alias("parts"),
    "a null": pl.when(pl.col("seats") != 3).then("seats").alias("seats"),
    "a key": pl.when(pl.col("seats") == 3).then(pl.lit("c")).otherwise("plane").alias("plane"),
    "a time": pl.col("at")
    + pl.when(seats=3).then(timedelta(microseconds=1)).otherwise(timedelta()),
    "two rows that swap values": pl.col("delay").replace([3.0, 4.0], [4.0, 3.0]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_change_shows_in_its_interval_alone(tmp_path, change):
    """A digest moves with any value that a view reads, down to the sign of a zero."""
    before, after = reads(tmp_path, FRAME), reads(tmp_path, FRAME.with_columns(change))
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_the_zeros_of_nested_numbers_are_told_apart(tmp_path):
    """Lists and arrays are digested by the bits of their numbers too."""
    for column, zero in (("parts", [0.0]), ("shape", [0.0, 1.0])):
        one = FRAME.with_columns(pl.lit(zero, SCHEMA[column]).alias(column))
        two = FRAME.with_columns(pl.lit([-0.0, *zero[1:]], SCHEMA[column]).alias(column))
        assert reads(tmp_path, one)[0] != reads(tmp_path, two)[0]


def test_what_the_view_does_not_read_is_not_digested(tmp_path):
    """A new column, or a moved one that no expression names, changes nothing."""
    before = reads(tmp_path, FRAME.with_columns(unread=pl.col("delay")))
    assert reads(tmp_path, FRAME.with_columns(unread=pl.lit(1), more=pl.lit("x"))) == before


def test_a_key_of_a_compatible_dtype_is_the_same_key(tmp_path):
    """Keys are digested as declared: another width in the file is no change."""
    numbers = FRAME.with_columns(plane=pl.col("at").dt.hour().cast(pl.Int32))
    made = landings(schema=numbers.schema, join_keys={"plane": "int64"})
    before = reads(tmp_path, numbers, made)
    assert reads(tmp_path, numbers.with_columns(pl.col("plane").cast(pl.Int64)), made) == before


def state(root, path="data/landings.parquet", kind="parquet"):
    """Give the state of a source."""
    return ViewSource(landings(path, kind), Roots(repo=root)).state


def test_the_state_of_a_file_moves_with_its_content(tmp_path):
    """Equal while nothing was written, another one after, even at the same size and old times."""
    root = written(tmp_path)
    file = root / "data" / "landings.parquet"
    before, stat = state(root), file.stat()
    assert before == state(root) != ""
    written(root, FRAME.with_columns(pl.col("seats").reverse()))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert state(root) not in ("", before)


@pytest.mark.parametrize("path", ["data/days", "data/days/*.parquet", "data/**/*.parquet"])
def test_the_state_of_many_files_moves_with_each(tmp_path, path):
    """A folder or glob is in another state when a file is added, written or removed."""
    root = written(tmp_path, name="days/1.parquet")
    seen = {state(root, path)}
    written(root, name="days/.2.parquet")
    seen.add(state(root, path))
    written(root, FRAME.head(3), name="days/1.parquet")
    seen.add(state(root, path))
    (root / "data" / "days" / ".2.parquet").unlink()
    seen.add(state(root, path))
    assert len(seen) == 4
    assert "" not in seen


def test_links_that_lead_in_circles_are_followed_once(tmp_path):
    """A folder's state ends, and moves with what lies behind a link."""
    root = written(tmp_path, name="days/1.parquet")
    written(tmp_path, name="elsewhere/2.parquet")
    days = root / "data" / "days"
    (days / "more").symlink_to(root / "data" / "elsewhere")
    for name in ("here", "here too"):
        (days / name).symlink_to(days)
    before = state(root, "data/days")
    written(tmp_path, FRAME.head(2), name="elsewhere/2.parquet")
    assert state(root, "data/days") not in ("", before)


def test_a_source_that_is_read_while_it_moves_has_no_state(tmp_path):
    """What was read may be of either state; the next run looks again."""
    root = written(tmp_path)
    opened = ViewSource(landings(), Roots(repo=root))
    assert opened.still() == opened.state
    written(root)
    assert opened.still() == ""


def test_a_delta_table_is_read_at_the_version_of_its_state(tmp_path):
    """What is appended while a run reads is the next run's; the state names the version."""
    place = tmp_path / "data" / "landings"
    FRAME.head(3).write_delta(place)
    opened = ViewSource(landings("data/landings", "delta"), Roots(repo=tmp_path))
    before = opened.fingerprint(PARTS)
    FRAME.tail(3).write_delta(place, mode="append")
    assert opened.scan(ALL).height == opened.counts([ALL])[0] == 3
    assert opened.fingerprint(PARTS) == before
    assert opened.still() == opened.state
    again = ViewSource(landings("data/landings", "delta"), Roots(repo=tmp_path))
    assert (opened.state[:3], again.state[:3]) == ("v0:", "v1:")
    assert again.scan(ALL).height == 6


def test_a_delta_table_made_anew_is_in_another_state(tmp_path):
    """Equal version numbers of two tables are two states."""
    first, second = tmp_path / "data" / "one", tmp_path / "data" / "two"
    FRAME.write_delta(first)
    FRAME.write_delta(second)
    assert state(tmp_path, "data/one", "delta") != state(tmp_path, "data/two", "delta")


def test_a_source_at_a_url_is_as_one_in_a_folder(tmp_path, bucket):
    """Objects are in another state when one is written, Delta tables at a URL have versions."""
    FRAME.write_delta(tmp_path / "data" / "a table")
    here = ViewSource(landings("data/a table", "delta"), Roots(repo=tmp_path))
    expected = here.fingerprint(PARTS)
    bucket.upload(tmp_path / "data" / "a table", "a table")
    bucket.upload(written(tmp_path) / "data" / "landings.parquet", "days/1.parquet")
    for path, kind in (("a table", "delta"), ("days", "parquet"), ("days/*.parquet", "parquet")):
        there = ViewSource(landings(f"{bucket.url}/{path}", kind), Roots(repo=tmp_path))
        assert there.fingerprint(PARTS).first == expected.first
        assert [one.rows for one in there.fingerprint(PARTS).reads] == [6, 6, 6, 2, 0, 1]
        assert there.still() == there.state != ""
    one = landings(f"{bucket.url}/days/1.parquet")
    before = ViewSource(one, Roots(repo=tmp_path))
    file = written(tmp_path, FRAME.with_columns(pl.col("delay").reverse()))
    bucket.upload(file / "data" / "landings.parquet", "days/1.parquet")
    assert before.still() == ""
    assert before.fingerprint(PARTS).reads == reads(
        tmp_path, pl.read_parquet(file / "data" / "landings.parquet")
    )


def test_a_source_that_is_not_there_has_no_state(tmp_path):
    """Reading it tells why; asking for its state does not."""
    assert state(tmp_path) == state(tmp_path, "data/nothing", "delta") == ""


def test_a_long_interval_is_cut_into_shares_of_about_equal_rows(tmp_path):
    """Shares join to the interval; rows of one microsecond stay together."""
    opened = ViewSource(landings(), Roots(repo=written(tmp_path)))
    found = opened.shares(ALL, 6)
    assert (found[0].start, found[-1].end) == (ALL.start, ALL.end)
    assert all(one.end == two.start for one, two in pairwise(found))
    assert opened.counts(found) == (6, 5, 5, 5)
    assert opened.shares(ALL, 21) == (ALL,)
    same = FRAME.with_columns(at=pl.lit(T0, MOMENT))
    again = ViewSource(landings(), Roots(repo=written(tmp_path, same)))
    (one,) = [n for n in again.counts(found) if n]
    assert one == 21
