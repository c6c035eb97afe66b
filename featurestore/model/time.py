"""The rules of time: UTC microseconds, half-open intervals, known-at, and how schemas normalize."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.schema import Column, dtype_name

EVENT = "event_timestamp"
CREATED = "created_timestamp"
KNOWN = "known_at"
REVISION = "revision"
BUCKET = "bucket"
PERIOD = "known_period"
RESERVED = (EVENT, CREATED, KNOWN, REVISION, BUCKET, PERIOD)

MOMENT = pl.Datetime("us", "UTC")
BEGINNING = -(2**63) + 1
"""Before every moment that can be stored; the start of an interval that reaches back for ever."""

ENDING = 253_402_300_799_999_999
"""The last moment of the year 9999."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Give UTC microseconds since 1970 of a datetime; a naive one is UTC.

    Raises:
        InvalidRequest: it is no datetime, but text or a date.
    """
    if not isinstance(moment, datetime):
        raise InvalidRequest(f"{moment!r} is no moment; pass a datetime, with its time zone")
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def moment(us: int) -> datetime:
    """Give the UTC datetime of microseconds since 1970.

    Raises:
        OverflowError: the moment is outside the years 1 to 9999, all that a datetime can say.
    """
    return _EPOCH + timedelta(microseconds=us)


def show(us: int | None) -> str:
    """Write any moment for people: ISO 8601 with seconds, or words where a calendar has none."""
    if us is None:
        return "never"
    if us <= BEGINNING:
        return "the beginning"
    if not _FIRST <= us <= _LAST:
        return "before the year 1" if us < _FIRST else "after the year 9999"
    return moment(us).isoformat(sep=" ").removesuffix("+00:00") + " UTC"


def second(us: int | None) -> str:
    """Write a moment to the second, for what happened and not for what data covers."""
    return show(us if us is None else us - us % 1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Interval:
    """The known-at moments in `(start, end]`, UTC microseconds."""

    start: int
    end: int

    def covers(self, other: "Interval") -> bool:
        """Say whether every moment of the other interval lies in this one."""
        return self.start <= other.start and other.end <= self.end

    def meets(self, other: "Interval") -> bool:
        """Say whether the two share a moment."""
        return self.start < other.end and other.start < self.end


def inside(column: pl.Expr, interval: Interval) -> pl.Expr:
    """Say whether a column of moments lies in an interval, exact to the microsecond at any year."""
    until = column <= pl.lit(interval.end, pl.Int64).cast(MOMENT)
    if interval.start <= BEGINNING:
        return until
    return until & (column > pl.lit(interval.start, pl.Int64).cast(MOMENT))


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Merge intervals that touch or overlap: sorted, disjoint, and none empty."""
    merged: list[Interval] = []
    for one in sorted(one for one in intervals if one.start < one.end):
        if merged and one.start <= merged[-1].end:
            last = merged.pop()
            merged.append(Interval(start=last.start, end=max(last.end, one.end)))
        else:
            merged.append(one)
    return tuple(merged)


def gaps(need: Interval, covered: Iterable[Interval]) -> tuple[Interval, ...]:
    """Give the stretches of the need that no covered interval holds, oldest first."""
    missing = []
    start = need.start
    for one in union(covered):
        if one.end <= start or one.start >= need.end:
            continue
        if start < one.start:
            missing.append(Interval(start=start, end=one.start))
        start = one.end
    if start < need.end:
        missing.append(Interval(start=start, end=need.end))
    return tuple(missing)


def watermark(intervals: Iterable[Interval]) -> int | None:
    """Give the moment up to and including which the newest unbroken stretch is complete."""
    merged = union(intervals)
    return merged[-1].end if merged else None


def normalize_schema(
    schema: Mapping[str, pl.DataType], field_mapping: Sequence[tuple[str, str]] = ()
) -> tuple[Column, ...]:
    """Give the columns an expression may read, after renaming and one coercion of dtypes.

    Datetimes of any unit and zone become UTC microseconds, Categorical and Enum become String;
    columns of dtypes the store has no name for are left out.
    """
    renamed = dict(field_mapping)
    columns = []
    for name, dtype in schema.items():
        try:
            columns.append(
                Column(name=renamed.get(name, name), dtype=dtype_name(normal_dtype(dtype)))
            )
        except ValueError:
            continue
    return tuple(columns)


def normal_dtype(dtype: pl.DataType) -> pl.DataType:
    """Give the dtype a source column is coerced to on its way in."""
    if isinstance(dtype, pl.Datetime):
        return MOMENT
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return pl.String()
    return dtype


def to_moment(column: pl.Expr, dtype: pl.DataType, time_zone: str | None) -> pl.Expr:
    """Coerce a Date or Datetime column to UTC microseconds.

    Naive values are local times of `time_zone` (default UTC); a local time that a clock change
    makes ambiguous or skips raises when it is computed.
    """
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return column.dt.convert_time_zone("UTC").cast(MOMENT)
    naive = column.cast(pl.Datetime("us"))
    if time_zone in (None, "UTC"):
        return naive.dt.replace_time_zone("UTC")
    return naive.dt.replace_time_zone(
        time_zone, ambiguous="raise", non_existent="raise"
    ).dt.convert_time_zone("UTC")


def known_at(event: pl.Expr, created: pl.Expr | None, delay: int) -> pl.Expr:
    """Give when a row became known: the later of event + delay and, where it counts, created.

    A null created timestamp says nothing: the row is known at event + delay.
    """
    shifted = event + pl.duration(microseconds=delay) if delay else event
    return shifted if created is None else pl.max_horizontal(shifted, created)
