"""The route, from one airport to another: the last flight that made it, and how many were late."""

from datetime import timedelta

import polars as pl
from feast import Entity, ValueType
from sources import landings

from featurestore.definitions import FeatureView, Window

origin = Entity(name="origin_airport", join_keys=["origin"], value_type=ValueType.STRING)
dest = Entity(name="dest_airport", join_keys=["dest"], value_type=ValueType.STRING)

late = pl.col("arr_delay") > 15

route_history = FeatureView(
    name="route_history",
    entities=[origin, dest],
    source=landings,
    ttl=timedelta(days=7),
    event_id="flight_id",
    filter=~pl.col("cancelled") & ~pl.col("diverted"),
    features={
        "route_delay": pl.col("arr_delay"),
        "air_minutes": pl.col("air_time"),
        "ground_speed": pl.col("distance") / pl.col("air_time") * 60,
        "route_carrier": pl.col("carrier").str.to_lowercase(),
        "landed_hour": pl.col("landed_at").dt.hour(),
        "route_late_3h": Window("3h").mean(late),
        "route_late_1d": Window("1d").mean(late),
        "route_late_7d": Window("7d").mean(late),
    },
    description="The route's last completed flight: minutes, miles per hour, UTC hour; the late "
    "share of its flights in the last 3 hours, day and week.",
)
