"""The question: at scheduled departure, will this flight arrive more than 15 minutes late?"""

import polars as pl
from airport import airport_departures, weather
from carrier import carrier_history
from city import city_traffic
from feast import FeatureService
from plane import plane_facts, plane_history
from route import route_history
from sources import flight

from featurestore.definitions import OnDemandFeatureView

# One view, used twice: where the flight departs, and at the airport one could leave from instead.
# (In a list, as Feast takes every view it finds at a module's top level for a definition.)
weathers = [
    weather.with_name("weather_origin").with_join_key_map({"airport": "origin"}),
    weather.with_name("weather_alternate").with_join_key_map({"airport": "alternate"}),
]

flight_outlook = OnDemandFeatureView(
    name="flight_outlook",
    sources=[plane_history, carrier_history, route_history, city_traffic, *weathers, flight],
    features={
        "rush_hour": pl.col("scheduled_hour").is_between(16, 20),
        "day_part": (
            pl.when(pl.col("scheduled_hour") < 12)
            .then(pl.lit("morning"))
            .when(pl.col("scheduled_hour") < 18)
            .then(pl.lit("afternoon"))
            .otherwise(pl.lit("evening"))
        ),
        "expected_air_minutes": pl.col("distance") / pl.col("ground_speed") * 60,
        "carried_delay": pl.max_horizontal(pl.col("last_delay"), pl.lit(0, dtype=pl.Int16)),
        "route_against_carrier": pl.col("route_late_7d") - pl.col("carrier_late_7d"),
        "visibility_gap": (
            pl.col("weather_origin__visibility") - pl.col("weather_alternate__visibility")
        ),
        "strain": (
            pl.col("late_share").fill_null(0.0) * pl.col("landed_last_hour")
            + pl.when(pl.col("weather_origin__raining")).then(10.0).otherwise(0.0)
        ),
    },
    description="What the flight faces, from what is stored and what the caller says.",
)

late_arrival_v1 = FeatureService(
    name="late_arrival_v1",
    features=[
        plane_history,
        plane_facts,
        carrier_history,
        route_history,
        weathers[0],
        weathers[1][["visibility", "gust", "raining", "sky"]],
        airport_departures.with_join_key_map({"airport": "origin"}),
        city_traffic,
        flight_outlook,
    ],
    description="All that the model of late arrivals reads.",
)
