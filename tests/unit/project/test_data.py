"""The example's data: complete, in UTC, and without a look into the future."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

DATA = Path(__file__).parents[3] / "feature_repo" / "data"
NEW_YORK = "America/New_York"
ROWS = {
    "flights": 336_776,
    "landings": 336_776,
    "departures": 328_521,
    "weather": 26_115,
    "planes": 4_043,
    "city_traffic": 8_758,
}
EVENT_TIME = {
    "flights": "scheduled_departure",
    "landings": "landed_at",
    "departures": "departed_at",
    "weather": "observed_at",
    "planes": "known_since",
    "city_traffic": "hour_end",
}
COMPLETED = ~pl.col("cancelled") & ~pl.col("diverted")


@pytest.fixture(scope="module")
def data() -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(DATA / f"{name}.parquet") for name in ROWS}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_here(data: dict[str, pl.DataFrame], name: str) -> None:
    """A file has all rows of the original, and a readable event time in each."""
    assert data[name].height == ROWS[name]
    assert data[name][EVENT_TIME[name]].null_count() == 0


@pytest.mark.parametrize("name", ROWS)
def test_every_time_is_utc_microseconds(data: dict[str, pl.DataFrame], name: str) -> None:
    """No file holds a naive time or one of another zone or unit."""
    times = {d for d in data[name].dtypes if isinstance(d, pl.Datetime)}
    assert times == {pl.Datetime("us", "UTC")}


def test_the_files_stay_small() -> None:
    """All files together are small enough to be kept in the repository."""
    sizes = [path.stat().st_size for path in DATA.glob("*.parquet")]
    assert len(sizes) == len(ROWS)
    assert sum(sizes) < 8_000_000


def test_every_file_and_column_is_described(data: dict[str, pl.DataFrame]) -> None:
    """The README beside the files names each of them and each of their columns."""
    text = (DATA / "README.md").read_text(encoding="utf-8")
    named = [f"{name}.parquet" for name in data] + [c for f in data.values() for c in f.columns]
    assert [name for name in named if f"`{name}`" not in text] == []


def test_the_local_hour_is_new_yorks(data: dict[str, pl.DataFrame]) -> None:
    """Back on New York's clock, each departure falls into 2013 and into its scheduled hour."""
    local = pl.col("scheduled_departure").dt.convert_time_zone(NEW_YORK)
    frame = data["flights"].select(
        local.dt.year().unique().implode().alias("years"),
        (local.dt.hour() == pl.col("scheduled_hour")).all().alias("agree"),
    )
    assert frame.row(0) == ([2013], True)


@pytest.mark.parametrize(("day", "hours"), [(date(2013, 3, 10), 4), (date(2013, 11, 3), 5)])
def test_the_clock_changes_where_new_york_changes_it(
    data: dict[str, pl.DataFrame], day: date, hours: int
) -> None:
    """On both nights noon is `hours` from UTC, and no flight departs while the clock jumps."""
    local = pl.col("scheduled_departure").dt.convert_time_zone(NEW_YORK)
    flights = data["flights"].filter(local.dt.date() == day)
    offset = flights.select(local.dt.base_utc_offset() + local.dt.dst_offset()).to_series()
    assert offset.unique().to_list() == [timedelta(hours=-hours)]
    assert flights["scheduled_hour"].min() >= 3


def test_a_flight_lands_after_it_departs(data: dict[str, pl.DataFrame]) -> None:
    """A landing comes after the scheduled and the actual departure, by more than the air time."""
    landings = data["landings"]
    assert landings.select((pl.col("landed_at") > pl.col("scheduled_departure")).all()).item()
    ground = (
        pl.col("landed_at")
        - pl.col("scheduled_departure")
        - pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time"))
    )
    taxi = landings.filter(COMPLETED).select(low=ground.min(), high=ground.max()).row(0)
    assert timedelta(0) < taxi[0] < taxi[1] < timedelta(hours=4)


def test_one_number_names_a_flight_in_every_file(data: dict[str, pl.DataFrame]) -> None:
    """`flight_id` is a row of flights.parquet; each landing and each departure has its own."""
    flights = data["flights"].with_row_index("flight_id").cast({"flight_id": pl.Int32})
    landings, departures = data["landings"], data["departures"]
    both = ("flight_id", "scheduled_departure", "tailnum", "carrier", "origin", "dest", "arr_delay")
    assert landings.select(both).sort("flight_id").equals(flights.select(both))
    left = landings.drop_nulls("dep_delay").select(
        (pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")).alias("departed_at"),
        "flight_id",
        pl.col("origin").alias("airport"),
        "carrier",
        "dep_delay",
    )
    assert departures.equals(left.sort("departed_at", "flight_id"))


def test_what_did_not_land_has_no_delay(data: dict[str, pl.DataFrame]) -> None:
    """Cancelled and diverted flights are told apart, and they alone lack a delay and a label."""
    landings = data["landings"]
    counts = landings.select(pl.col("cancelled", "diverted").sum()).row(0)
    assert counts == (8_255, 1_175)
    assert landings.filter(COMPLETED)["arr_delay"].null_count() == 0
    assert landings.filter(~COMPLETED)["arr_delay"].count() == 0
    assert data["flights"]["late"].null_count() == sum(counts)


def test_the_label_is_the_question(data: dict[str, pl.DataFrame]) -> None:
    """`late` is an arrival delay of more than 15 minutes."""
    flights = data["flights"].drop_nulls("late")
    assert flights.select((pl.col("late") == (pl.col("arr_delay") > 15)).all()).item()
    assert 0.2 < flights["late"].mean() < 0.3


def test_the_alternate_is_another_new_york_airport(data: dict[str, pl.DataFrame]) -> None:
    """Each flight names one of the other two airports."""
    pairs = data["flights"].select("origin", "alternate").unique().sort("origin").rows()
    assert pairs == [("EWR", "LGA"), ("JFK", "EWR"), ("LGA", "JFK")]


def test_an_airport_has_one_observation_an_hour(data: dict[str, pl.DataFrame]) -> None:
    """No (airport, hour) comes twice, on the hour, not even when the clock goes back."""
    weather = data["weather"]
    assert not weather.select("airport", "observed_at").is_duplicated().any()
    assert (weather["observed_at"].dt.truncate("1h") == weather["observed_at"]).all()
    night = datetime(2013, 11, 3, 5, tzinfo=UTC)
    hours = weather.filter(pl.col("observed_at").is_between(night, night + timedelta(hours=1)))
    assert hours.group_by("airport").len()["len"].to_list() == [2, 2, 2]


def test_every_plane_that_flew_has_facts(data: dict[str, pl.DataFrame]) -> None:
    """The planes file has each tail number of the year once; most are in the registry."""
    planes = data["planes"]
    assert set(planes["tailnum"]) == set(data["flights"]["tailnum"].drop_nulls())
    assert planes["tailnum"].is_unique().all()
    assert planes["in_registry"].sum() == 3_322
    assert planes.filter(~pl.col("in_registry"))["model"].count() == 0


def test_the_citys_traffic_counts_the_landings_of_the_hour(
    data: dict[str, pl.DataFrame],
) -> None:
    """An hour's row counts exactly the landings after its start, up to and including its end."""
    traffic, landings = data["city_traffic"], data["landings"].filter(COMPLETED)
    assert traffic["landed"].sum() == landings.height
    assert traffic["hour_end"].diff().drop_nulls().unique().to_list() == [timedelta(hours=1)]
    end = datetime(2013, 11, 1, 18, tzinfo=UTC)
    within = (pl.col("landed_at") > end - timedelta(hours=1)) & (pl.col("landed_at") <= end)
    hour = landings.filter(within)["arr_delay"]
    row = traffic.filter(pl.col("hour_end") == end).row(0, named=True)
    assert (row["landed"], row["late"]) == (hour.len(), (hour > 15).sum())
    assert row["mean_arr_delay"] == hour.mean()
