"""The city as a whole: one value for everyone, no entity."""

from datetime import timedelta

import polars as pl
from sources import traffic

from featurestore.definitions import FeatureView

city_traffic = FeatureView(
    name="city_traffic",
    entities=[],
    source=traffic,
    ttl=timedelta(hours=2),
    features={
        "landed_last_hour": pl.col("landed"),
        "late_share": pl.when(pl.col("landed") > 0).then(pl.col("late") / pl.col("landed")),
        "mean_delay": pl.col("mean_arr_delay"),
        "delay_level": (pl.col("mean_arr_delay") / 15).floor().clip(0, 8).cast(pl.Int8),
        "quiet": pl.col("landed") < 10,
    },
    description="The last full hour's landings of flights from the three New York airports.",
)
