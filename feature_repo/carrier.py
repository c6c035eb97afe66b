"""The carrier: how its latest flight ended."""

from datetime import timedelta

import polars as pl
from feast import Entity, ValueType
from sources import landings

from featurestore.definitions import FeatureView

carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING)

carrier_history = FeatureView(
    name="carrier_history",
    entities=[carrier],
    source=landings,
    ttl=timedelta(days=2),
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
    },
    description="The carrier's latest flight out of New York, landed or not.",
)
