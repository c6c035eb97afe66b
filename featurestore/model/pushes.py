"""What everybody who has to do with pushed rows agrees on."""

import polars as pl

SKEW = 600_000_000
"""How far in the future an event may lie at most if nobody says: ten minutes, microseconds."""

REFUSALS = pl.Schema({"row": pl.Int64, "at": pl.String, "reason": pl.String})
"""Refusals: the row's number among those pushed (null: all of them, of a view), the column or view
that it is about, and why.
"""
