"""What a backfill will cost: an estimate from what the view's current table holds."""

from dataclasses import dataclass

ROW_OVERHEAD = 97
"""Bytes Redis adds to a packed row and its key: 305 held for rows of 208 (measured, Redis 7.0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is known of a view's current table, and of a row in it and in the new one.

    `rows` and `bytes` are the offline table's, `keys` its distinct keys, `held` the rows that the
    new table has already. `packed` and `becomes` are the bytes of a packed row as it is and as it
    will be; `used` what Redis was seen to hold per row, None where it did not answer.
    """

    rows: int
    bytes: int
    keys: int
    held: int = 0
    packed: int
    becomes: int
    used: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Rows and bytes to write offline, and bytes of Redis memory; None where nothing is known."""

    rows: int | None = None
    bytes: int | None = None
    redis: int | None = None


def estimate(measured: Measured) -> Cost:
    """Estimate the cost of a table that holds the current one's rows in the new shape."""
    missing = max(0, measured.rows - measured.held)
    each = measured.bytes / measured.rows if measured.rows else 0.0
    used = measured.packed + ROW_OVERHEAD if measured.used is None else measured.used
    grown = measured.becomes - measured.packed
    return Cost(
        rows=missing,
        bytes=round(missing * each * measured.becomes / measured.packed),
        redis=round(measured.keys * (used + grown)),
    )
