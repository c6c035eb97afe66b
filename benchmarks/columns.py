"""What the columns, files and moments of the synthetic data are called; imports nothing heavy.

A peer's process imports this alone: its memory is to be its own.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=90)
END = START + SPAN
TTL = timedelta(days=7)
"""How long a reading counts in a training set, on every side."""
KEY, MOMENT, EVENT, ROW = "key", "happened", "event_timestamp", "row"
VIEW, SERVICE = "readings", "model"
READINGS, SPINE = f"{VIEW}.parquet", "spine.parquet"


def names(features: int, first: int = 0) -> list[str]:
    """Give the names of so many features."""
    return [f"f{number:03d}" for number in range(first, first + features)]


def views(features: int, count: int = 1) -> Mapping[str, list[str]]:
    """Give the views' names, each with the names of its features."""
    return {f"{VIEW}{number or ''}": names(features, number * features) for number in range(count)}
