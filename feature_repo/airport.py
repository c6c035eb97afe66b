"""The airport: its weather, hour by hour, and how busy its runways are."""

from datetime import timedelta

import polars as pl
from feast import Entity, ValueType
from sources import departures, observations

from featurestore.definitions import FeatureView, Window

airport = Entity(name="airport", join_keys=["airport"], value_type=ValueType.STRING)

# An observation is labelled with the hour in which it was taken, mostly at its 51st minute: only
# when that hour is over is it known for sure. Hence the delay.
weather = FeatureView(
    name="weather",
    entities=[airport],
    source=observations,
    ttl=timedelta(hours=3),
    delay=timedelta(hours=1),
    features={
        "temperature": ((pl.col("temp") - 32) * 5 / 9).round(1),
        "dew_point_spread": pl.col("temp") - pl.col("dewp"),
        "visibility": pl.col("visib"),
        "wind_speed": pl.col("wind_speed"),
        "gust": pl.max_horizontal("wind_gust", "wind_speed"),
        "wind_sector": ((pl.col("wind_dir") / 45).round() % 8).cast(pl.Int8),
        "pressure": pl.col("pressure"),
        "raining": pl.col("precip") > 0,
        "freezing": pl.col("temp") <= 32,
        "sky": (
            pl.when(pl.col("visib") < 1)
            .then(pl.lit("fog"))
            .when(pl.col("precip") > 0)
            .then(pl.lit("rain"))
            .when(pl.col("visib") < 5)
            .then(pl.lit("haze"))
            .otherwise(pl.lit("clear"))
        ),
    },
    description="Hourly weather: degrees Celsius, miles, miles per hour, hectopascal; "
    "wind sector 0 is north, 2 east.",
)

airport_departures = FeatureView(
    name="airport_departures",
    entities=[airport],
    source=departures,
    event_id="flight_id",
    features={
        "departed_1h": Window("1h").count(),
        "left_late_1h": Window("1h").mean(pl.col("dep_delay") > 15),
    },
    description="What left the airport in the last hour: how many flights, and the share of those "
    "that left more than 15 minutes late.",
)
