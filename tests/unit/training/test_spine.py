"""Entity rows from every frame, and every way they can be wrong."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from featurestore.errors import InvalidRequest
from featurestore.model.catalog import Catalog
from featurestore.model.declare import on_demand_view
from featurestore.model.documents import Projection
from featurestore.model.query import resolve
from featurestore.model.schema import Column
from featurestore.model.time import EVENT, MOMENT
from featurestore.training import training_set
from featurestore.training.spine import read_spine
from tests.tables import Memory, ask, make_view, stored

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)
VIEW = make_view()
TABLES = Memory(
    frames={
        "plane": stored(
            VIEW,
            {
                "tailnum": ["N1", "N1", "N2"],
                EVENT: [NOON, NOON + timedelta(hours=1), NOON],
                "value": [1, 2, 3],
            },
        )
    }
)


def run(entity_df, view=VIEW, tables=TABLES):
    return training_set(entity_df, ask(view), tables, project="tests")


FRAME = pl.DataFrame(
    {
        "label": [True, False, True],
        "tailnum": ["N2", "N1", "N1"],
        EVENT: [NOON, NOON + timedelta(hours=2), NOON],
    }
)
VALUES = [3, 2, 1]


def _written(frame, folder):
    frame.write_parquet(folder / "spine.parquet")
    return folder / "spine.parquet"


@pytest.mark.parametrize(
    "bring",
    [
        lambda frame, _: frame,
        lambda frame, _: frame.lazy(),
        lambda frame, _: frame.to_pandas(),
        lambda frame, _: frame.to_arrow(),
        lambda frame, _: frame.to_arrow().to_reader(),
        _written,
        lambda frame, folder: str(_written(frame, folder)),
    ],
    ids=["polars", "lazy", "pandas", "arrow", "arrow reader", "path", "path as text"],
)
def test_every_kind_of_frame_gives_the_same_rows(bring, tmp_path):
    """Frames of pandas, Polars and Arrow and Parquet files are equal ways to bring entity rows."""
    made = run(bring(FRAME, tmp_path))
    assert made.to_polars()["value"].to_list() == VALUES
    assert made.to_df()["value"].tolist() == VALUES
    assert made.to_arrow()["value"].to_pylist() == VALUES
    assert made.to_polars().columns == [*FRAME.columns, "value"]
    assert made.to_df().columns.tolist() == made.to_arrow().column_names


def test_a_path_is_a_name_and_no_pattern(tmp_path):
    """The file whose name has brackets and an asterisk is read, and no other one with it."""
    path = tmp_path / "rows [1]*.parquet"
    FRAME.write_parquet(path)
    FRAME.write_parquet(tmp_path / "rows 1 too.parquet")
    assert run(path).to_polars().height == FRAME.height


def test_own_pandas_columns_come_back_as_they_were():
    """Column types that Polars does not have survive; the index is fresh."""
    spine = pd.DataFrame(
        {
            "tailnum": pd.Categorical(["N2", "N1"]),
            "label": pd.array([1, None], dtype="Int16"),
            EVENT: pd.to_datetime(["2013-06-01 14:00", "2013-06-01 14:00"]).tz_localize(
                "Europe/Berlin"
            ),
        },
        index=[7, 7],
    )
    made = run(spine).to_df()
    pd.testing.assert_frame_equal(made.drop(columns="value"), spine.reset_index(drop=True))
    assert made["value"].tolist() == [3, 1]


def test_a_pandas_frame_changed_afterwards_changes_no_training_row():
    """The rows are what they were when the call was made."""
    spine = FRAME.to_pandas()
    made = run(spine)
    before = made.to_df()
    spine["label"] = False
    spine.loc[:, "tailnum"] = "N9"
    pd.testing.assert_frame_equal(made.to_df(), before)


def test_own_arrow_columns_come_back_as_they_were():
    """Decimals, dictionaries and units of an Arrow table survive to_arrow."""
    spine = pa.table(
        {
            "tailnum": pa.array(["N2", "N1"]).dictionary_encode(),
            EVENT: pa.array([NOON] * 2, pa.timestamp("ns", "UTC")),
            "price": pa.array([1, 2], pa.decimal128(7, 2)),
        }
    )
    made = run(spine).to_arrow()
    assert made.drop_columns(["value"]).equals(spine)
    assert made["value"].to_pylist() == [3, 1]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "Asia/Kolkata"])
def test_units_and_zones_tell_the_same_moment(unit, zone):
    """Naive times are UTC, others are converted; own columns keep unit and zone."""
    told = pl.col(EVENT).cast(pl.Datetime(unit, "UTC"))
    told = told.dt.replace_time_zone(None) if zone is None else told.dt.convert_time_zone(zone)
    made = run(FRAME.with_columns(told)).to_polars()
    assert made["value"].to_list() == VALUES
    assert made[EVENT].dtype == pl.Datetime(unit, zone)


@pytest.mark.parametrize("offset", ["+05:30", "-03:00"])
def test_fixed_offsets_tell_the_same_moment(offset):
    """A pandas column with a fixed offset is converted like a named zone."""
    spine = FRAME.to_pandas()
    spine[EVENT] = spine[EVENT].dt.tz_convert(offset)
    made = run(spine).to_df()
    assert made["value"].tolist() == VALUES
    assert made[EVENT].dtype == spine[EVENT].dtype


@pytest.mark.parametrize(
    ("local", "fold", "instant"),
    [
        ("2026-03-29 01:59", 0, datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("2026-03-29 03:00", 0, datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("2026-10-25 02:30", 0, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("2026-10-25 02:30", 1, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_clock_changes_are_no_gap_and_no_overlap(local, fold, instant):
    """Berlin's spring gap and both of its 02:30 in autumn are the instants they say."""
    told = (
        pl.Series(EVENT, [local])
        .str.to_datetime("%F %R")
        .dt.replace_time_zone("Europe/Berlin", ambiguous="latest" if fold else "earliest")
    )
    spine = read_spine(pl.DataFrame([pl.Series("tailnum", ["N1"]), told]), ask(VIEW))
    assert spine.time.to_list() == [instant]
    assert spine.time.dtype == MOMENT


def test_nanoseconds_are_cut_toward_the_past_even_before_1970():
    """A moment is never rounded into its future."""
    told = pl.Series(EVENT, [-1, -1000, -1001, 1, 999]).cast(pl.Datetime("ns"))
    spine = read_spine(pl.DataFrame([pl.Series("tailnum", ["N1"] * 5), told]), ask(VIEW))
    assert spine.time.to_physical().to_list() == [-1, -1, -2, 0, 0]


def test_a_null_time_matches_nothing():
    """NaT and null stay rows, without values."""
    spine = pd.DataFrame({"tailnum": ["N1", "N1"], EVENT: [pd.NaT, pd.Timestamp(NOON)]})
    assert run(spine).to_polars()["value"].to_list() == [None, 1]
    spine[EVENT] = None
    assert run(spine).to_polars()["value"].to_list() == [None, None]


def test_the_only_datetime_column_is_the_moment():
    """Without `event_timestamp` a single datetime column is taken, keys and request data aside."""
    renamed = FRAME.rename({EVENT: "scheduled"})
    assert run(renamed).to_polars()["value"].to_list() == VALUES
    view = make_view(keys={"hour": "datetime"})
    tables = Memory(frames={"plane": stored(view, {"hour": [NOON], EVENT: [NOON], "value": [1]})})
    spine = pl.DataFrame({"hour": [NOON.replace(tzinfo=None)], "scheduled": [NOON]})
    assert run(spine, view, tables).to_polars()["value"].to_list() == [1]


def test_integral_float_keys_join_integers():
    """Integers that pandas keeps as floats beside a missing one still find their rows."""
    view = make_view(keys={"number": "int64"})
    tables = Memory(frames={"plane": stored(view, {"number": [5], EVENT: [NOON], "value": [1]})})
    spine = pd.DataFrame({"number": [5.0, np.nan], EVENT: [NOON] * 2})
    made = run(spine, view, tables)
    assert made.to_polars()["value"].to_list() == [1, None]
    assert made.to_df()["number"].dtype == np.float64


def test_a_key_column_without_any_value_has_any_dtype():
    """A frame with only missing keys, or no rows, is not refused for its dtype."""
    for spine in (
        pl.DataFrame({"tailnum": [None], EVENT: [NOON]}),
        pd.DataFrame({"tailnum": [np.nan], EVENT: [NOON]}),
    ):
        assert run(spine).to_polars()["value"].to_list() == [None]
    assert run(pd.DataFrame({"tailnum": [], EVENT: []})).to_polars().height == 0


CENTURY = pl.Series(EVENT, [10**17], dtype=pl.Int64)


@pytest.mark.parametrize(
    ("spine", "message"),
    [
        (
            FRAME.rename({"tailnum": "tail_num"}),
            "join key 'tailnum' of plane is missing.*did you mean 'tail_num'",
        ),
        (FRAME.drop(EVENT), "no column is a datetime; name the one to use 'event_timestamp'"),
        (FRAME.rename({EVENT: "a"}).with_columns(b="a"), "a, b are all datetimes; name the one"),
        (
            FRAME.with_columns(pl.col(EVENT).dt.date()),
            "event_timestamp: is Date, not a datetime; cast it",
        ),
        (FRAME.with_columns(pl.col(EVENT).cast(pl.String)), "is String, not a datetime; parse it"),
        (FRAME.with_columns(pl.col(EVENT).to_physical()), "is Int64, not a datetime; convert it"),
        (FRAME.with_columns(value=0), "'value' has the name of the feature plane:value; rename"),
        (FRAME.with_columns(tailnum=pl.lit(1)), "tailnum"),
        (FRAME[:1].with_columns(CENTURY.cast(pl.Datetime("ms"))), "times outside 0001-01-01"),
        (FRAME[:1].with_columns((CENTURY * -10).cast(pl.Datetime("us"))), "times outside 0001-01"),
        (FRAME.to_pandas().set_index(EVENT), r"in the index; call reset_index\(\)"),
        (FRAME.to_pandas().set_axis([0, 1, 2], axis=1), "column names are not all strings"),
        (pd.DataFrame([["N1", "N1"]], columns=["tailnum", "tailnum"]), "two columns share a name"),
        (pd.DataFrame({"tailnum": ["N1", 1], EVENT: [NOON] * 2}), "cannot be read"),
        (pd.Series([1]), "Series is no table"),
        ("select * from flights", "cannot be read"),
        ({"tailnum": ["N1"]}, "dict is no table; pass a pandas or Polars DataFrame"),
        (None, "NoneType is no table"),
    ],
)
def test_bad_entity_rows_are_refused_with_the_way_out(spine, message):
    """Each wrong spine has an error that says what, where and what to do."""
    with pytest.raises(InvalidRequest, match=rf"^entity_df.*{message}"):
        run(spine)


def test_a_mapped_join_key_reads_the_callers_column():
    """The same view, used twice, takes its key from two columns of the entity rows."""
    uses = [
        Projection(view="plane", alias="first", features=("value",)),
        Projection(
            view="plane", alias="second", join_key_map=(("tailnum", "other"),), features=("value",)
        ),
    ]
    query = resolve(uses, Catalog(current={"plane": VIEW}), full_feature_names=True)
    spine = pl.DataFrame({"tailnum": ["N1", "N2"], "other": ["N2", None], EVENT: [NOON] * 2})
    tables = Memory(frames=TABLES.frames)
    made = training_set(spine, query, tables, project="tests").to_polars()
    assert made["first__value"].to_list() == [1, 3]
    assert made["second__value"].to_list() == [3, None]
    assert tables.reads == [
        ("plane", 0, ("tailnum", EVENT, "created_timestamp")),
        ("plane", 0, ("value",)),
    ]
    with pytest.raises(InvalidRequest, match=r"join key 'tailnum' of second is missing.*'other'"):
        training_set(spine.drop("other"), query, tables, project="tests")


def _pace(dtype):
    return on_demand_view(
        name="pace",
        sources=[],
        request=[Column(name="distance", dtype=dtype)],
        features={"doubled": pl.col("distance") + pl.col("distance")},
    )


@pytest.mark.parametrize(
    ("dtype", "given", "doubled"),
    [
        ("float64", pl.Series([1, None], dtype=pl.Int16), [2.0, None]),
        ("float32", pl.Series([1.5, None]), [3.0, None]),
        ("int64", pl.Series([2.0, None]), [4, None]),
        ("int32", pl.Series([2, 3], dtype=pl.UInt64), [4, 6]),
        ("float64", pl.Series([None, None]), [None, None]),
        ("int64", pl.Series([2**62 - 1], dtype=pl.UInt64), [2**63 - 2]),
        ("float64", pl.Series([], dtype=pl.String), []),
    ],
)
def test_request_data_is_cast_to_its_declared_dtype(dtype, given, doubled):
    """Numbers become the declared numbers; the caller's own column keeps its dtype."""
    query = ask(_pace(dtype))
    spine = pl.DataFrame({"distance": given, EVENT: pl.Series([NOON] * len(given), dtype=MOMENT)})
    made = training_set(spine, query, Memory(frames={}), project="tests").to_polars()
    assert made["doubled"].to_list() == doubled
    assert made["doubled"].dtype == Column(name="", dtype=dtype).polars
    assert_frame_equal(made.drop("doubled"), spine)


@pytest.mark.parametrize(
    ("dtype", "given", "message"),
    [
        ("float64", ["1.5"], "is String, but float64 is declared; cast it first"),
        ("float64", [2**53 + 1], "a value does not fit float64"),
        ("float64", [2**63 - 1], "a value does not fit float64"),
        ("int64", [1.5], "a value does not fit int64"),
        ("int64", [float("inf")], "a value does not fit int64"),
        ("int8", [300], "a value does not fit int8"),
        ("uint32", [-1], "a value does not fit uint32"),
        ("float64", [True], "is Boolean, but float64 is declared"),
        ("int64", [date(2013, 1, 1)], "is Date, but int64 is declared"),
    ],
)
def test_request_data_that_does_not_fit_is_refused(dtype, given, message):
    """No value is bent to fit: the column is named, its values are not shown."""
    spine = pl.DataFrame({"distance": given, EVENT: [NOON]})
    with pytest.raises(InvalidRequest, match=rf"^entity_df\.distance: {message}") as raised:
        training_set(spine, ask(_pace(dtype)), Memory(frames={}), project="tests")
    assert "300" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([["1.5"]], r"is List\(String\), but array"),
        ([[1, 2, 3]], "a value does not fit array"),
        ([[1, 2]], None),
        ([[0.5, None]], None),
        ([None], None),
    ],
)
def test_lists_fit_arrays_of_their_width(given, message):
    """Nested request data is cast by the same rule, inner numbers to floats."""
    view = on_demand_view(
        name="near",
        sources=[],
        request=[Column(name="v", dtype="array[float32,2]")],
        features={"missing": pl.col("v").is_null()},
    )
    spine = pl.DataFrame({"v": given, EVENT: [NOON]})
    if message is None:
        made = training_set(spine, ask(view), Memory(frames={}), project="tests")
        assert made.features["missing"].to_list() == [given == [None]]
    else:
        with pytest.raises(InvalidRequest, match=rf"^entity_df\.v: {message}"):
            training_set(spine, ask(view), Memory(frames={}), project="tests")


def test_missing_request_data_is_named():
    """A request field that the entity rows lack is asked for by name."""
    spine = pl.DataFrame({"distanze": [1.0], EVENT: [NOON]})
    with pytest.raises(
        InvalidRequest, match=r"request data 'distance' of pace is missing.*did you mean 'distanze'"
    ):
        training_set(spine, ask(_pace("float64")), Memory(frames={}), project="tests")


def test_training_loads_neither_pandas_nor_feast():
    """The library pandas is imported only by who brings or asks for it."""
    code = "import sys, featurestore.training; print({'pandas', 'feast'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
