"""How a table's rows are laid out: into how many buckets, and by what period of known-at.

Both are chosen from the size when the table is made, and stay: a bucket is what one worker joins at
a time, and a period is as far as an interval's replacement, or a compaction, rewrites.
"""

from featurestore.model.documents import View
from featurestore.model.schema import value_bytes
from featurestore.model.windows import stored_columns

BUCKET_BYTES = 128 << 20
MOST_BUCKETS = 4096
PERIODS_FROM = 2 << 30
"""Smaller tables are not cut by time: a bucket of them is rewritten in a second."""

_PARTITION_BYTES = 32 << 20
_DAY = 86_400_000_000
_LADDER = tuple(_DAY * days for days in (1, 7, 30, 91, 365))
_TIMES = 3 * 8 + 4
"""Event, created and known-at time, and the revision."""


def row_bytes(view: View) -> int:
    """Estimate the bytes of a stored row: keys, times, revision, features."""
    dtypes = [key.polars for key in view.join_keys]
    dtypes += [column.polars for column in stored_columns(view)]
    return _TIMES + sum(map(value_bytes, dtypes))


def buckets_for(view: View, rows: int) -> int:
    """Give a power of two, so that a bucket takes about 128 MiB; one without join keys."""
    if not view.join_keys:
        return 1
    wanted = -(-rows * row_bytes(view) // BUCKET_BYTES)
    return min(MOST_BUCKETS, 1 << max(0, wanted - 1).bit_length())


def period_for(view: View, rows: int, span: int) -> int | None:
    """Give the microseconds of known-at that a partition holds, None for all; `span` is theirs.

    Only large tables are cut, and so that a partition has about 32 MiB. A period may be longer than
    the span: the table goes on growing.
    """
    whole = rows * row_bytes(view)
    if whole < PERIODS_FROM or span <= 0:
        return None
    least = span * _PARTITION_BYTES * buckets_for(view, rows) // whole
    return next((period for period in _LADDER if least <= period), _LADDER[-1])
