"""What everybody who has to do with pushed rows agrees on."""

from datetime import timedelta
from typing import Any

import polars as pl

from featurestore.errors import InvalidRequest

SKEW = 600_000_000
"""How far in the future an event may lie at most if nobody says: ten minutes, microseconds."""

_LONGEST = timedelta(days=3_650_000)

REFUSALS = pl.Schema({"row": pl.Int64, "at": pl.String, "reason": pl.String})
"""Refusals: the row's number among those pushed (null: all of them, of a view), the column or view
that it is about, and why.
"""
_NONE = pl.DataFrame(schema=REFUSALS)


def no_refusals() -> pl.DataFrame:
    """Give the refusals of rows that are all taken."""
    return _NONE.clone()


def skew_of(given: Any) -> int:
    """Give how far in the future an event may lie, in microseconds, of a timedelta.

    Raises:
        InvalidRequest: it is none, negative, or longer than ten thousand years.
    """
    if not isinstance(given, timedelta):
        raise InvalidRequest(
            f"max_skew: {given!r:.40} is no timedelta; write such as timedelta(minutes=10)"
        )
    if not timedelta(0) <= given <= _LONGEST:
        raise InvalidRequest(
            f"max_skew: {given} is below zero or above ten thousand years; give another timedelta"
        )
    return given // timedelta(microseconds=1)
