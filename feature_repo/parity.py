"""What the training row and the served vector of one flight and moment must share: every bit."""

import sys
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from featurestore import FeatureStore

SERVICE = "late_arrival_v1"
ASKED = ("tailnum", "carrier", "origin", "dest", "alternate", "distance", "scheduled_hour")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One value that differs between training and serving."""

    moment: datetime
    row: int
    feature: str
    trained: object
    served: object


def request(flights: pl.DataFrame) -> pl.DataFrame:
    """Give the columns a lookup needs: entities and request data."""
    return flights.select(ASKED)


def trained_at(
    store: FeatureStore, flights: pl.DataFrame, moment: pl.Expr, *, allow_stale: bool = False
) -> pl.DataFrame:
    """Give the training rows of flights, each at its moment."""
    utc = moment.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
    spine = flights.select(*ASKED, event_timestamp=utc)
    made = store.get_historical_features(
        spine, SERVICE, full_feature_names=True, allow_stale=allow_stale
    )
    return made.to_polars().drop(spine.columns)


def differences(trained: pl.DataFrame, answer: pl.DataFrame, moments: pl.Series) -> list[Mismatch]:
    """Give every value that differs between two frames, with the moment of its row."""
    wrong = unequal(trained, answer)
    return [
        Mismatch(
            moment=moments[row],
            row=row,
            feature=name,
            trained=trained[name][row],
            served=answer[name][row],
        )
        for name in wrong.columns
        for row in wrong[name].arg_true()
    ]


def unequal(trained: pl.DataFrame, answer: pl.DataFrame) -> pl.DataFrame:
    """Say of every value whether it differs; floats are compared by their bits."""
    if trained.schema != answer.schema:
        sys.exit(f"schemas differ: {trained.schema} and {answer.schema}")
    return pl.DataFrame(
        {name: bits(trained[name]).ne_missing(bits(answer[name])) for name in trained.columns}
    )


def bits(column: pl.Series) -> pl.Series:
    """Give floats as the integers of their bits; -0.0 differs from 0.0 and NaN equals itself."""
    if column.dtype.is_float():
        return column.reinterpret(signed=True)
    return column
