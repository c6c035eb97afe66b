"""Where the rows come from; `data/README.md` says what each column means.

What happens all day can be pushed as it happens, under the name of the `PushSource`; its file has
all of it in the end.
"""

from feast import Field, FileSource, PushSource, RequestSource
from feast.types import Float64, Int64

landings = PushSource(
    name="landings",
    batch_source=FileSource(
        name="landings_file", path="data/landings.parquet", timestamp_field="landed_at"
    ),
    description="Every flight, at the moment when its outcome is known.",
)

departures = PushSource(
    name="departures",
    batch_source=FileSource(
        name="departures_file", path="data/departures.parquet", timestamp_field="departed_at"
    ),
    description="Every flight that left, at the moment when it did.",
)

planes = FileSource(
    name="planes",
    path="data/planes.parquet",
    timestamp_field="known_since",
    description="What the aircraft registry says of each plane that flew.",
)

observations = PushSource(
    name="observations",
    batch_source=FileSource(
        name="observations_file", path="data/weather.parquet", timestamp_field="observed_at"
    ),
    description="The weather at the New York airports, one row an hour.",
)

traffic = PushSource(
    name="traffic",
    batch_source=FileSource(
        name="traffic_file", path="data/city_traffic.parquet", timestamp_field="hour_end"
    ),
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
