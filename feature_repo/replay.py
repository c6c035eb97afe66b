"""A day as it happened: what became known was pushed, then the flights that left were looked up.

Each flight is looked up at its scheduled departure, when everything known by then has been pushed
and nothing later. That gives the vector that a model would have seen on the day.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from parity import SERVICE, request

from featurestore import FeatureClient

HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source to push to: its file, its event time, and how much later a row is known."""

    file: str
    event: str
    delay: timedelta = timedelta(0)


SOURCES = {
    "departures": Source(file="departures", event="departed_at"),
    "landings": Source(file="landings", event="landed_at"),
    "observations": Source(file="weather", event="observed_at", delay=HOUR),
    "traffic": Source(file="city_traffic", event="hour_end"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replay:
    """The flights of a day, the vector of each, and how many rows were pushed before it."""

    flights: pl.DataFrame
    vectors: pl.DataFrame
    pushed: pl.Series


def replay(
    address: str, data: Path, flights: pl.DataFrame, *, start: datetime, end: datetime
) -> Replay:
    """Push what became known in (start, end], and look up the flights of that time in between."""
    day = flights.filter(
        pl.col("scheduled_departure").is_between(start, end, closed="right"),
        pl.col("tailnum").is_not_null(),
    )
    groups = day.partition_by("scheduled_departure", maintain_order=True)
    moments = pl.Series([group["scheduled_departure"][0] for group in groups])
    batches = micro_batches(data, moments, start=start, end=end)
    vectors, counts, pushed = list[pl.DataFrame](), list[pl.Series](), 0
    with FeatureClient(address, timeout=10) as client:
        for number, group in enumerate(groups):
            pushed += push(client, batches.get(number, {}))
            answer = client.get_online_features(
                SERVICE, entities=request(group), full_feature_names=True, as_of=moments[number]
            )
            vectors.append(answer.to_polars().drop(request(group).columns, strict=False))
            counts.append(pl.repeat(pushed, group.height, eager=True))
        push(client, batches.get(len(groups), {}))
    return Replay(flights=day, vectors=pl.concat(vectors), pushed=pl.concat(counts))


def micro_batches(
    data: Path, moments: pl.Series, *, start: datetime, end: datetime
) -> Mapping[int, Mapping[str, pl.DataFrame]]:
    """Give the rows of each source that become known between one moment and the next.

    Number 0 is up to and including the first of `moments`, one more than the last is up to `end`.
    """
    batches: dict[int, dict[str, pl.DataFrame]] = {}
    for name, source in SOURCES.items():
        known = pl.col(source.event) + source.delay
        rows = (
            pl.scan_parquet(data / f"{source.file}.parquet")
            .filter(known.is_between(start, end, closed="right"))
            .sort(source.event, maintain_order=True)
            .collect()
        )
        numbers = moments.search_sorted(rows.select(known).to_series(), side="left")
        for (number,), batch in rows.group_by(numbers, maintain_order=True):
            batches.setdefault(int(str(number)), {})[name] = batch
    return batches


def push(client: FeatureClient, batches: Mapping[str, pl.DataFrame]) -> int:
    """Push rows to their sources, to be read at once; stop unless every row is taken."""
    for name, rows in batches.items():
        result = client.push(name, rows, to="online")
        if result.accepted != rows.height or any(one.missing for one in result.online):
            sys.exit(repr(result))
    return sum(rows.height for rows in batches.values())
