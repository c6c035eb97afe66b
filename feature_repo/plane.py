"""The plane: how its last flight went, and what it is."""

from datetime import timedelta

import polars as pl
from feast import Entity, ValueType
from sources import landings, planes

from featurestore.definitions import FeatureView

plane = Entity(name="plane", join_keys=["tailnum"], value_type=ValueType.STRING)

# Known only once it landed: the event is the landing, not the departure.
plane_history = FeatureView(
    name="plane_history",
    entities=[plane],
    source=landings,
    ttl=timedelta(days=30),
    filter=~pl.col("cancelled") & ~pl.col("diverted"),
    features={
        "last_delay": pl.col("arr_delay"),
        "was_late": pl.col("arr_delay") > 15,
        "made_up": pl.col("dep_delay") - pl.col("arr_delay"),
        "air_speed": (pl.col("distance") / pl.col("air_time") * 60).cast(pl.Float32),
        "gate_to_gate": (
            (pl.col("landed_at") - pl.col("scheduled_departure")).dt.total_minutes()
            - pl.col("dep_delay")
        ).cast(pl.Int32),
        "last_airport": pl.col("dest"),
        "last_landing": pl.col("landed_at"),
        "last_landed_on": pl.col("landed_at").dt.date(),
    },
    description="The plane's last completed flight out of New York; delays in minutes.",
)

plane_facts = FeatureView(
    name="plane_facts",
    entities=[plane],
    source=planes,
    features={
        "in_registry": pl.col("in_registry"),
        "maker": (
            pl.when(pl.col("manufacturer").str.starts_with("AIRBUS"))
            .then(pl.lit("Airbus"))
            .when(pl.col("manufacturer").str.starts_with("MCDONNELL DOUGLAS"))
            .then(pl.lit("McDonnell Douglas"))
            .otherwise(pl.col("manufacturer").str.to_titlecase())
            .fill_null("unknown")
        ),
        "size": (
            pl.when(pl.col("seats") > 250)
            .then(pl.lit("wide"))
            .when(pl.col("seats") > 100)
            .then(pl.lit("narrow"))
            .when(pl.col("seats").is_not_null())
            .then(pl.lit("small"))
            .otherwise(pl.lit("unknown"))
        ),
        "known_jet": pl.col("engine").is_in(["Turbo-fan", "Turbo-jet"]).fill_null(value=False),
        "seats": pl.col("seats"),
        "built": pl.col("built"),
    },
    description="The plane's registry entry; one plane in six has none.",
)
