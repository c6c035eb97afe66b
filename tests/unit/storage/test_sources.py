"""Raw rows from real Parquet and Delta files: zones, units, mappings, intervals, refusals."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import DeltaTable

from featurestore.errors import InvalidRequest, SourceError
from featurestore.model.time import BEGINNING, MOMENT, Interval, micros, normalize_schema
from featurestore.storage.pushed import Roots
from featurestore.storage.sources import extent, locate, raw_rows, scan
from tests.declared import pace, source, view

ALL = Interval(start=BEGINNING, end=253_402_300_799_999_999)
T0 = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FRAME = pl.DataFrame(
    {
        "plane": ["a", "b", None, "c"],
        "at": [T0, T0 + HOUR, T0 + 2 * HOUR, None],
        "loaded": [None, T0 + 9 * HOUR, None, T0],
        "delay": [1.0, None, float("nan"), -0.0],
        "seats": [1, 2, None, 4],
    },
    schema={
        "plane": pl.String(),
        "at": MOMENT,
        "loaded": MOMENT,
        "delay": pl.Float64(),
        "seats": pl.UInt8(),
    },
)


def of(frame, features=None, join_keys=None, mapping=(), **changes):
    """Declare a view that reads the columns of a frame as they are."""
    described = source(
        columns=normalize_schema(frame.schema, mapping), field_mapping=tuple(mapping), **changes
    )
    features = features or {"d": pl.col("delay")}
    return view(
        source=described,
        join_keys={"plane": None} if join_keys is None else join_keys,
        features=features,
    )


def written(root, frame, path="data/landings.parquet"):
    """Write a frame where a source looks for it."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(root / path)
    return root


def read(made, root, interval):
    """Give the raw rows of a view whose source lies below a folder."""
    return raw_rows(made, Roots(repo=root), interval)


def events(rows):
    """Give the event times of raw rows."""
    return rows["__event_timestamp"].to_list()


def test_rows_come_with_keys_times_and_what_is_read(tmp_path):
    """Raw rows hold the columns that expressions read and the store's own beside them."""
    rows = read(of(FRAME, created_field="loaded"), written(tmp_path, FRAME), ALL)
    assert rows.schema == {
        "delay": pl.Float64,
        "__key_plane": pl.String,
        "__event_timestamp": MOMENT,
        "__created_timestamp": MOMENT,
        "__known_at": MOMENT,
    }
    assert rows["__key_plane"].to_list() == ["a", "b", None, "c"]
    assert rows["__known_at"].to_list()[:3] == [T0, T0 + 9 * HOUR, T0 + 2 * HOUR]


def test_an_interval_is_over_known_at_and_half_open(tmp_path):
    """Of two moments a microsecond apart the start is out and the end is in."""
    root = written(tmp_path, FRAME.drop_nulls("at"))
    plain = of(FRAME)
    end = micros(T0 + HOUR)
    assert events(read(plain, root, Interval(start=micros(T0), end=end))) == [T0 + HOUR]
    assert events(read(plain, root, Interval(start=micros(T0) - 1, end=end - 1))) == [T0]
    late = of(FRAME, created_field="loaded")
    assert events(read(late, root, Interval(start=micros(T0), end=end))) == []


def test_rows_without_a_time_are_kept_for_the_filter_but_not_counted(tmp_path):
    """Whether a row without an event time is an error is for the filter to say."""
    root = written(tmp_path, FRAME)
    early = Interval(start=BEGINNING, end=micros(T0) - 1)
    assert events(read(of(FRAME, created_field="loaded"), root, early)) == [None]
    assert extent(of(FRAME), Roots(repo=root), micros(T0) - 1) == (0, 0)
    assert extent(of(FRAME), Roots(repo=root), micros(T0)) == (1, 0)
    assert extent(of(FRAME), Roots(repo=root), ALL.end)[0] == 3


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize(("zone", "hour"), [(None, 12), ("Europe/Berlin", 10)])
def test_naive_times_of_any_unit_are_local_to_the_views_zone(tmp_path, unit, zone, hour):
    """Parquet's units and a naive column's zone end as UTC microseconds."""
    local = datetime(2013, 7, 1, 12)  # noqa: DTZ001
    frame = pl.DataFrame(
        {"plane": ["a"], "at": [local], "delay": [1.0]},
        schema_overrides={"at": pl.Datetime(unit)},
    )
    found = read(of(frame, time_zone=zone), written(tmp_path, frame), ALL)
    assert events(found) == [datetime(2013, 7, 1, hour, tzinfo=UTC)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_aware_times_of_any_zone_keep_their_moment(tmp_path, unit):
    """A column that says its zone is converted, never relabelled."""
    frame = pl.DataFrame({"plane": ["a"], "at": [T0], "delay": [1.0]}).with_columns(
        pl.col("at").dt.convert_time_zone("Asia/Kolkata").dt.cast_time_unit(unit)
    )
    found = read(of(frame, time_zone="Europe/Berlin"), written(tmp_path, frame), ALL)
    assert events(found) == [T0]


def test_a_date_is_a_timestamp_and_stays_a_date_where_it_is_read(tmp_path):
    """A Date column times rows by midnight UTC; an expression reads it as the Date it is."""
    frame = pl.DataFrame({"plane": ["a"], "at": [T0.date()], "delay": [1.0]})
    found = read(of(frame, {"day": pl.col("at")}), written(tmp_path, frame), ALL)
    assert events(found) == [T0]
    assert found["at"].to_list() == [T0.date()]


def test_times_that_are_read_are_coerced_like_the_timestamp(tmp_path):
    """A naive column that an expression reads is local to the same zone."""
    local = datetime(2013, 7, 1, 12)  # noqa: DTZ001
    frame = pl.DataFrame({"plane": ["a"], "at": [T0], "gone": [local]})
    made = of(frame, {"gone": pl.col("gone")}, time_zone="America/New_York")
    found = read(made, written(tmp_path, frame), ALL)
    assert found["gone"].to_list() == [datetime(2013, 7, 1, 16, tzinfo=UTC)]


@pytest.mark.parametrize("hour", ["2026-03-29 02:30:00", "2026-10-25 02:30:00"])
def test_an_hour_that_a_clock_change_skips_or_repeats_is_refused(tmp_path, hour):
    """A local time with no single meaning is an error that says so; as UTC it is fine."""
    frame = pl.DataFrame({"plane": ["a"], "at": [hour], "delay": [1.0]}).with_columns(
        pl.col("at").str.to_datetime("%Y-%m-%d %H:%M:%S")
    )
    root = written(tmp_path, frame)
    with pytest.raises(SourceError, match=r"history\.source: .*; a local time that a clock change"):
        read(of(frame, time_zone="Europe/Berlin"), root, ALL)
    assert read(of(frame), root, ALL).height == 1


def test_a_time_outside_what_microseconds_reach_is_a_named_error(tmp_path):
    """Milliseconds hold years that microseconds do not: refused, not wrapped."""
    frame = pl.DataFrame({"plane": ["a"], "at": [2**60], "delay": [1.0]}).with_columns(
        pl.col("at").cast(pl.Datetime("ms"))
    )
    with pytest.raises(SourceError, match=r"history\.source: data/landings\.parquet cannot be"):
        read(of(frame), written(tmp_path, frame), ALL)


def test_columns_are_read_under_their_mapped_names(tmp_path):
    """A field mapping renames keys, times and features alike."""
    frame = FRAME.head(1).rename({"plane": "tail", "at": "landed", "delay": "arr"})
    mapping = [("tail", "plane"), ("landed", "at"), ("arr", "delay"), ("gone", "x")]
    found = read(of(frame, mapping=mapping), written(tmp_path, frame), ALL)
    assert found.select("__key_plane", "__event_timestamp", "delay").rows() == [("a", T0, 1.0)]


def test_two_columns_may_trade_names(tmp_path):
    """A mapping is applied at once, not one by one."""
    mapping = [("delay", "seats"), ("seats", "delay")]
    made = of(FRAME, {"d": pl.col("delay")}, mapping=mapping)
    assert read(made, written(tmp_path, FRAME), ALL)["delay"].to_list() == [1, 2, None, 4]


def test_a_column_that_a_mapping_makes_twice_is_refused(tmp_path):
    """A file that has both the old and the new name would give a column two meanings."""
    made = of(FRAME.drop("seats"), mapping=[("delay", "late")], features={"d": pl.col("late")})
    both = FRAME.with_columns(late=pl.lit(0.0))
    with pytest.raises(SourceError, match=r"history\.source: field_mapping gives .* 'late'"):
        read(made, written(tmp_path, both), ALL)


def test_keys_are_cast_to_their_declared_dtype(tmp_path):
    """Integral floats join an integer key with nulls kept; others are refused by path."""
    frame = pl.DataFrame({"k": [1.0, float("nan")], "at": [T0, T0], "delay": [1.0, 2.0]})
    made = of(frame, join_keys={"k": "int64"})
    rows = read(made, written(tmp_path, frame), ALL)
    assert rows["__key_k"].to_list() == [1, None]
    with pytest.raises(InvalidRequest, match=r"history\.source\.k: the key is declared int64"):
        read(made, written(tmp_path, frame.with_columns(k=pl.lit(1.5))), ALL)


def test_a_folder_and_a_glob_are_one_source(tmp_path):
    """All Parquet files of a folder, or those a pattern names, are read."""
    for name in ("one", "two"):
        written(tmp_path, FRAME.head(1), f"data/parts/{name}.parquet")
    for path in ("data/parts", "data/parts/*.parquet", "data/parts/t*.parquet"):
        rows = read(of(FRAME, path=path), tmp_path, ALL)
        assert rows.height == (1 if "t*" in path else 2)


def test_a_hive_folder_gives_its_partition_columns(tmp_path):
    """`key=value` folders are columns, as other tools write them."""
    written(tmp_path, FRAME.drop("plane").head(1), "data/parts/plane=a/0.parquet")
    assert read(of(FRAME, path="data/parts"), tmp_path, ALL)["__key_plane"].to_list() == ["a"]


@pytest.mark.parametrize("folder", ["plain", "a b", "ünï", "x[1]", "a?b", "50%", "#1"])
def test_the_repo_may_lie_in_any_folder(tmp_path, folder):
    """Signs in the repo's own path are no patterns and no escapes."""
    root = written(tmp_path / folder, FRAME.head(1))
    assert read(of(FRAME), root, ALL).height == 1
    assert read(of(FRAME, path="data/*.parquet"), root, ALL).height == 1


@pytest.mark.parametrize("folder", ["plain", "a b", "ünï", "a?b", "#1"])
def test_a_delta_table_is_read_in_any_folder(tmp_path, folder):
    """A Delta source gives its newest version's rows."""
    path = tmp_path / folder / "data" / "landings"
    path.mkdir(parents=True)
    DeltaTable.create(str(path), FRAME.drop("seats").to_arrow().schema)
    found = of(FRAME.drop("seats"), path="data/landings", format="delta")
    assert read(found, tmp_path / folder, ALL).height == 0
    FRAME.drop("seats").head(2).write_delta(str(path), mode="append")
    rows = read(found, tmp_path / folder, ALL)
    assert sorted(rows["__key_plane"]) == ["a", "b"]
    assert set(events(rows)) == {T0, T0 + HOUR}


PATHS = {
    "relative": ("data/x.parquet", "/repo/data/x.parquet"),
    "absolute": ("/data/x.parquet", "/data/x.parquet"),
    "above the repo": ("../x.parquet", "/repo/../x.parquet"),
    "a file URL": ("file:///data/a%20b.parquet", "/data/a b.parquet"),
    "a file URL in capitals": ("FILE:///data/x", "/data/x"),
    "a file URL with a host": ("file://localhost/data/x", "/data/x"),
    "object stores": ("s3://bucket/x", "s3://bucket/x"),
    "other object stores": ("abfss://a@b/x", "abfss://a@b/x"),
}


@pytest.mark.parametrize(("path", "located"), PATHS.values(), ids=PATHS.keys())
def test_a_path_points_where_people_expect(tmp_path, path, located):
    """Relative paths start at the repo; file URLs are paths; object stores stay URLs."""
    root = tmp_path
    assert locate(path, root).replace(str(root), "/repo") == located


@pytest.mark.parametrize(
    "path", ["http://x/y.parquet", "https://x/y", "hdfs://x/y", "jdbc:x", "FTP://x/y", "data:,x"]
)
def test_other_schemes_are_refused(tmp_path, path):
    """Only what the store reads is opened: no other scheme reaches a library."""
    with pytest.raises(SourceError, match=r"cannot read .*:// URLs; supported are abfs, "):
        locate(path, tmp_path)


def nothing(root):
    """Write nothing."""


def garbled(root):
    """Write bytes that are no Parquet."""
    (root / "data").mkdir()
    (root / "data/landings.parquet").write_bytes(b"PAR1 not really PAR1")


def zero_bytes(root):
    """Write an empty file."""
    (root / "data").mkdir()
    (root / "data/landings.parquet").write_bytes(b"")


def truncated(root):
    """Write a file and cut it."""
    written(root, FRAME)
    data = (root / "data/landings.parquet").read_bytes()
    (root / "data/landings.parquet").write_bytes(data[: len(data) // 2])


def rotten(root):
    """Write a file whose data pages are overwritten."""
    frame = pl.DataFrame(
        {"plane": ["a"] * 5000, "at": [T0] * 5000, "delay": [float(n) for n in range(5000)]}
    )
    written(root, frame)
    data = bytearray((root / "data/landings.parquet").read_bytes())
    data[64 : len(data) // 2] = b"\xff" * (len(data) // 2 - 64)
    (root / "data/landings.parquet").write_bytes(data)


def folder(root):
    """Make an empty folder."""
    (root / "data/landings.parquet").mkdir(parents=True)


def lacking(root):
    """Write a file without a column that is read."""
    written(root, FRAME.rename({"delay": "dely"}))


UNREADABLE = {
    "missing": (nothing, {}, "history.source: data/landings.parquet is not there, or holds"),
    "no match": (nothing, {"path": "data/*.parquet"}, "history.source: data/*.parquet is not th"),
    "an empty folder": (folder, {}, "history.source: data/landings.parquet is not there, or hol"),
    "zero bytes": (zero_bytes, {}, "history.source: data/landings.parquet cannot be read as par"),
    "garbled": (garbled, {}, "history.source: data/landings.parquet cannot be read as parquet"),
    "truncated": (truncated, {}, "history.source: data/landings.parquet cannot be read as parq"),
    "rotten": (rotten, {}, "history.source: data/landings.parquet cannot be read"),
    "lacking a column": (
        lacking,
        {},
        "history.source: column 'delay' is not in data/landings.parquet; did you mean 'dely'?",
    ),
    "no Delta table": (
        nothing,
        {"format": "delta"},
        "history.source: data/landings.parquet is not there, or holds nothing",
    ),
    "a folder that is no Delta table": (
        folder,
        {"format": "delta"},
        "history.source: data/landings.parquet cannot be read as delta",
    ),
}


@pytest.mark.parametrize(("spoil", "edit", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_source_that_cannot_be_read_is_a_named_error(tmp_path, spoil, edit, message):
    """What is wrong with a file is said with the view, the path and a way out."""
    spoil(tmp_path)
    with pytest.raises(SourceError, match=re.escape(message)):
        read(of(FRAME, **edit), tmp_path, ALL)


def test_a_file_without_rows_is_an_empty_source(tmp_path):
    """No rows are no error: the columns are there."""
    assert read(of(FRAME), written(tmp_path, FRAME.clear()), ALL).height == 0


def test_a_view_without_entities_reads_all_rows(tmp_path):
    """No join keys, no key columns, every row."""
    rows = read(of(FRAME, join_keys={}), written(tmp_path, FRAME), ALL)
    assert rows.height == 4
    assert not any(name.startswith("__key_") for name in rows.columns)


def test_an_on_demand_view_has_no_rows(tmp_path):
    """What is computed at request time has no source to read."""
    with pytest.raises(SourceError, match="pace: has no source"):
        read(pace(), tmp_path, ALL)


def test_a_scan_keeps_the_files_own_names(tmp_path):
    """Before mapping, a source shows the columns its file has."""
    made = of(FRAME, mapping=[("seats", "chairs")])
    frame = scan(made.source, written(tmp_path, FRAME), "history")
    assert frame.collect_schema().names() == FRAME.columns
