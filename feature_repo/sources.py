"""Where the rows come from; `data/README.md` says what each column means."""

from feast import Field, FileSource, RequestSource
from feast.types import Float64, Int64

landings = FileSource(
    name="landings",
    path="data/landings.parquet",
    timestamp_field="landed_at",
    description="Every flight, at the moment when its outcome is known.",
)

planes = FileSource(
    name="planes",
    path="data/planes.parquet",
    timestamp_field="known_since",
    description="What the aircraft registry says of each plane that flew.",
)

observations = FileSource(
    name="observations",
    path="data/weather.parquet",
    timestamp_field="observed_at",
    description="The weather at the New York airports, one row an hour.",
)

traffic = FileSource(
    name="traffic",
    path="data/city_traffic.parquet",
    timestamp_field="hour_end",
    description="What landed in each hour, of the flights from New York.",
)

flight = RequestSource(
    name="flight",
    description="What the caller knows of the flight: miles to fly, local hour of departure.",
    schema=[
        Field(name="distance", dtype=Float64),
        Field(name="scheduled_hour", dtype=Int64),
    ],
)
