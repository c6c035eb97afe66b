"""The carrier: how its latest flight ended, and how many of the last hours and days were late."""

from datetime import timedelta

import polars as pl
from feast import Entity, ValueType
from sources import landings

from featurestore.definitions import FeatureView, Window

carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)

# Null, and so in no share, for a flight that never landed.
late = pl.col("arr_delay") > 15

carrier_history = FeatureView(
    name="carrier_history",
    entities=[carrier],
    source=landings,
    ttl=timedelta(days=2),
    event_id="flight_id",
    features={
        "carrier_delay": pl.col("arr_delay"),
        "carrier_outcome": (
            pl.when(pl.col("cancelled"))
            .then(pl.lit("cancelled"))
            .when(pl.col("diverted"))
            .then(pl.lit("diverted"))
            .when(pl.col("arr_delay") > 15)
            .then(pl.lit("late"))
            .otherwise(pl.lit("on time"))
        ),
        "carrier_route": pl.concat_str("origin", "dest", separator="-"),
        "carrier_flew_km": (pl.col("distance") * 1.609344).round(1),
        "carrier_late_3h": Window("3h").mean(late),
        "carrier_late_1d": Window("1d").mean(late),
        "carrier_late_7d": Window("7d").mean(late),
        "carrier_landed_1d": Window("1d").count(pl.col("arr_delay")),
    },
    description="The carrier's latest flight out of New York, landed or not; the late share of "
    "those that landed in the last 3 hours, day and week, and their number in a day.",
)
