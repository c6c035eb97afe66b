"""Which of the rows that somebody pushes can be taken: each row is judged, and the rest kept.

A row is refused for a null where a view needs a value (event time, the id that windows tell events
apart by, a join key of every view), for a value that its column's dtype cannot hold, and for an
event too far in the future. A row that lacks the key of one view joins the others, as it does when
its source is materialized. Refusals say which row and column, and never show a value.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import polars as pl

from featurestore.engine.request import converts, rounds
from featurestore.model.documents import Source, View
from featurestore.model.names import suggest
from featurestore.model.pushes import REFUSALS, SKEW, no_refusals
from featurestore.model.reads import needed, takes_pushed
from featurestore.model.schema import Column
from featurestore.model.time import MOMENT, to_moment
from featurestore.model.windows import numbered

_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
_PER_MILLISECOND = 1_000


Judged = tuple[str, pl.Series, str]
"""A column or view, which rows are refused for it (a mask), and why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accepted:
    """Rows that were taken, as their source has them, and those that were not, and why.

    `rows` has the columns of the source that came along, under the names that expressions use and
    in the source's dtypes; `places` are the numbers they were pushed under. `refused` has the
    columns of `REFUSALS`; a row may be there for several reasons. `views` are those that take them.
    """

    views: tuple[View, ...]
    rows: pl.DataFrame
    places: pl.Series
    refused: pl.DataFrame

    @property
    def refused_rows(self) -> int:
        """How many rows were refused."""
        rows = self.refused["row"]
        return rows.drop_nulls().n_unique() if len(rows) else 0

    def without(self, judged: Sequence[Judged]) -> "Accepted":
        """Give what is left if some of the rows are refused as well."""
        if not judged:
            return self
        bad = reduce(or_, (mask for _, mask, _ in judged))
        more = [refusals(self.places.filter(mask), at, reason) for at, mask, reason in judged]
        return replace(
            self,
            rows=self.rows.filter(~bad),
            places=self.places.filter(~bad),
            refused=_sorted([self.refused, *more]),
        )

    def without_view(self, view: View, reason: str) -> "Accepted":
        """Give the same rows for one view less: it cannot take them, and refuses none."""
        told = pl.DataFrame([(None, view.name, reason)], schema=REFUSALS, orient="row")
        return replace(
            self,
            views=tuple(one for one in self.views if one.data_id != view.data_id),
            refused=_sorted([self.refused, told]),
        )


def accept(
    rows: pl.DataFrame, views: Sequence[View], *, now: int, max_skew: int = SKEW, most: int
) -> Accepted:
    """Judge rows that are pushed to the source that some views read.

    The columns that some view needs must be there, but for the created timestamp: where the source
    has one and a row has none, it is `now`, when the row arrived. Other columns may be left out;
    those that the source does not have are not looked at. Columns may also have the names that
    they have in the file, before the source's field mapping. Naive datetimes are local times of the
    source's time zone, else UTC.

    Args:
        rows: the rows, in any order.
        views: versions of views over one source, what counts most first. Of two versions of a view
            the latter takes no rows where it needs what the rows, as they are now, do not have.
        now: the moment, UTC microseconds.
        max_skew: how far after it an event may lie, microseconds.
        most: how many rows are taken at most.
    """
    refused = [_counts_all(view.name) for view in views if not takes_pushed(view)]
    views = [view for view in views if takes_pushed(view)]
    dtypes = _dtypes(views)
    if rows.height > most:
        over = pl.Series(range(most, rows.height), dtype=pl.Int64)
        reason = f"is beyond the {most:,} rows that a call takes; push it in another"
        refused.append(refusals(over, "", reason))
    rows, named_twice = _mapped(rows.head(most), views)
    taking, left_out = _taking(views, rows, dtypes)
    refused += left_out
    places = pl.Series(range(rows.height), dtype=pl.Int64)
    lacking = [*named_twice, *_lacking(rows, taking)]
    if lacking or not taking:
        refused += [refusals(places, name, reason) for name, reason in lacking]
        return Accepted(
            views=taking, rows=rows.clear(), places=places.clear(), refused=_sorted(refused)
        )
    found, misfits = _cast(rows, taking, dtypes)
    found = _stamped(found, taking[0].source, now)
    taken = Accepted(views=taking, rows=found, places=places, refused=_sorted(refused))
    judged = [*misfits, *_judged(found, taking, misfits, now=now, max_skew=max_skew)]
    return taken.without([one for one in judged if one[1].any()])


def refusals(places: pl.Series, at: str, reason: str) -> pl.DataFrame:
    """Give the refusal of each of some rows for one reason."""
    frame = places.alias("row").to_frame()
    return frame.with_columns(at=pl.lit(at), reason=pl.lit(reason)).cast(REFUSALS)


def _sorted(refused: Sequence[pl.DataFrame]) -> pl.DataFrame:
    told = [one for one in refused if not one.is_empty()]
    if not told:
        return no_refusals()
    return pl.concat(told).unique(maintain_order=True).sort("row", maintain_order=True)


def _counts_all(view: str) -> pl.DataFrame:
    reason = (
        "its windows count every row as an event, so one that was pushed and lands in the source "
        "as well would count twice; add event_id to the view to push to it"
    )
    return refusals(pl.Series([None], dtype=pl.Int64), view, reason)


def _mapped(
    rows: pl.DataFrame, views: Sequence[View]
) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
    """Give columns the names that expressions use, where they have those of the file.

    A name that is a column's in the file and another one's in expressions is taken for the file's
    if a column has a name that only the file uses. Gives also what came under both of its names.
    """
    pairs = dict(pair for view in views if view.source for pair in view.source.field_mapping)
    there, used = set(rows.columns), set(pairs.values())
    as_filed = not there.isdisjoint(pairs.keys() - used)
    renamed = {o: n for o, n in pairs.items() if o in there and (as_filed or o not in used)}
    twice = {old: new for old, new in renamed.items() if new in there - renamed.keys()}
    told = [
        (old, f"the column came as '{new}' too, as expressions call it; push one of the two")
        for old, new in twice.items()
    ]
    kept = {old: new for old, new in renamed.items() if old not in twice}
    # Where there is nothing to do, this would still be two queries.
    rows = rows.drop(twice.keys()) if twice else rows
    return rows.rename(kept) if kept else rows, told


def _dtypes(views: Sequence[View]) -> dict[str, Column]:
    """Give the columns that a source has, by name, as the first view that knows one knows it."""
    found: dict[str, Column] = {}
    for view in views:
        for column in view.source.columns if view.source else ():
            found.setdefault(column.name, column)
    return found


def _taking(
    views: Sequence[View], rows: pl.DataFrame, dtypes: Mapping[str, Column]
) -> tuple[tuple[View, ...], list[pl.DataFrame]]:
    """Leave out versions of views that read the source as it was: gives the others, and why."""
    seen: set[str] = set()
    taking, refused = [], []
    for view in views:
        of = {column.name: column for column in view.source.columns} if view.source else {}
        wanted = needed(view)
        other = [name for name in wanted if dtypes.get(name) != of.get(name)]
        lacking = [name for name, _ in _lacking(rows, [view])]
        if view.name in seen and (other or lacking):
            reason = f"reads column '{(other + lacking)[0]}', which the rows do not have as it was"
            refused.append(refusals(pl.Series([None], dtype=pl.Int64), view.version, reason))
        else:
            taking.append(view)
        seen.add(view.name)
    return tuple(taking), refused


def _lacking(rows: pl.DataFrame, views: Sequence[View]) -> Iterator[tuple[str, str]]:
    """Give the columns that views need and the rows lack, each with the reason to say."""
    wanting: dict[str, str] = {}
    there = set(rows.columns)
    for view in views:
        created = view.source.created_field if view.source else None
        for name in needed(view):
            if name != created and name not in there:
                wanting.setdefault(name, view.name)
    for name, who in wanting.items():
        near = suggest(name, rows.columns)
        yield name, f"the column is missing, and view '{who}' needs it{near}"


def _cast(
    rows: pl.DataFrame, views: Sequence[View], dtypes: Mapping[str, Column]
) -> tuple[pl.DataFrame, list[Judged]]:
    """Give the source's columns in its dtypes, and which values do not fit theirs."""
    wanted = {name for view in views for name in needed(view)}
    zones = {view.source.time_zone for view in views if view.source}
    columns: list[pl.Series] = []
    judged: list[Judged] = []
    for column in dtypes.values():
        if column.name in rows.columns:
            cast, bad = _fitted(rows[column.name], column.polars, zones)
            columns.append(cast)
            if column.name in wanted and bad is not None and bad.any():
                given = rows[column.name].dtype
                judged.append((column.name, bad, _misfit(given, column, zones)))
    return pl.DataFrame(columns), judged


def _misfit(given: pl.DataType, column: Column, zones: set[str | None]) -> str:
    if not isinstance(given, pl.Datetime) or column.dtype != "datetime":
        return f"is {given}, and does not fit {column.dtype}, which the source has"
    if given.time_zone is None and len(zones) > 1:
        return "is a local time, and views of the source differ in time_zone; push it in UTC"
    return "is outside the years 1 to 9999, or a local time that a clock change leaves no meaning"


def _fitted(
    column: pl.Series, dtype: pl.DataType, zones: set[str | None]
) -> tuple[pl.Series, pl.Series | None]:
    """Cast a column where no value changes: gives it, and a mask of what does not fit, if any."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == dtype and (dtype != MOMENT or _in_years(column)):
        return column, None
    if isinstance(column.dtype, pl.Datetime | pl.Date) and dtype == MOMENT:
        found = _moments(column, zones)
        return found, found.is_null() & column.is_not_null()
    if not converts(column.dtype, dtype):
        nulls = pl.Series(column.name, [None], dtype).new_from_index(0, len(column))
        return nulls, column.is_not_null()
    if isinstance(dtype, pl.Array) and isinstance(column.dtype, pl.List | pl.Array):
        listed = column.cast(pl.List(column.dtype.inner))
        short = (listed.list.len() != dtype.size).fill_null(value=False)
        whole = listed.zip_with(~short, listed.clear(1)) if short.any() else listed
        found, bad = _fitted(whole, pl.List(dtype.inner), zones)
        return found.cast(dtype), short if bad is None else bad | short
    found = column.cast(dtype, strict=False)
    if rounds(column.dtype, dtype):
        return found, found.is_null() & column.is_not_null()
    return found, ~found.cast(column.dtype, strict=False).eq_missing(column)


def _in_years(moments: pl.Series) -> bool:
    """Say whether moments, UTC microseconds, all lie in the years that a calendar has."""
    physical = moments.cast(pl.Int64)
    first, last = physical.min(), physical.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return True
    return _YEARS[0] <= first and last <= _YEARS[1]


def _moments(column: pl.Series, zones: set[str | None]) -> pl.Series:
    """Give UTC microseconds, null for a moment no calendar has or a local time without meaning."""
    name, dtype = pl.col(column.name), column.dtype
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime) else "us"
    first, last = (end // _PER_MILLISECOND if unit == "ms" else end for end in _YEARS)
    # No moment in nanoseconds, or in days, leaves the years; milliseconds would overflow.
    moments = column.to_physical().cast(pl.Int64)
    inside = moments.is_not_null() if unit == "ns" else moments.is_between(first, last)
    kept = column.to_frame().select(pl.when(inside).then(name))
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return kept.select(to_moment(name, dtype, None)).to_series()
    if len(zones) > 1:
        return pl.Series(column.name, [None], MOMENT).new_from_index(0, len(column))
    local = name.cast(pl.Datetime("us")).dt.replace_time_zone(
        next(iter(zones)) or "UTC", ambiguous="null", non_existent="null"
    )
    return kept.select(local.dt.convert_time_zone("UTC")).to_series()


def _stamped(rows: pl.DataFrame, source: Source | None, now: int) -> pl.DataFrame:
    """Let rows without a created timestamp have become known when they arrived."""
    name = source.created_field if source else None
    if source is None or name is None:
        return rows
    if name in rows.columns and not rows[name].null_count():
        return rows
    dtype = next((one.polars for one in source.columns if one.name == name), MOMENT)
    arrived = pl.lit(now, pl.Int64).cast(MOMENT).cast(dtype)
    stamped = pl.col(name).fill_null(arrived) if name in rows.columns else arrived
    return rows.with_columns(stamped.alias(name))


def _judged(
    rows: pl.DataFrame,
    views: Sequence[View],
    misfits: Sequence[Judged],
    *,
    now: int,
    max_skew: int,
) -> Iterator[Judged]:
    """Judge values that fit their dtypes: nulls where a view needs a value, and the far future."""
    unfit = {name: bad for name, bad, _ in misfits}
    nulls = [
        (name, rows[name].is_null(), reason)
        for name, reason in _essential(views).items()
        if rows[name].null_count()
    ]
    for name, null, reason in (*_keyless(rows, views), *nulls):
        yield name, null & ~unfit[name] if name in unfit else null, reason
    assert views[0].source is not None
    event = views[0].source.timestamp_field
    moments = rows[event].cast(MOMENT).cast(pl.Int64)
    last = moments.max()
    if isinstance(last, int) and last > now + max_skew:
        minutes = f"{max_skew / 60_000_000:g} minutes"
        late = (moments > now + max_skew).fill_null(value=False)
        yield event, late, f"lies more than {minutes} in the future; set the sender's clock"


def _keyless(rows: pl.DataFrame, views: Sequence[View]) -> Iterator[Judged]:
    """Judge rows that no view can hold, as each finds a join key null."""
    keys = {key.name: view.name for view in views for key in view.join_keys}
    nulls = {name: rows[name].is_null() for name in keys if rows[name].null_count()}
    if not all(any(key.name in nulls for key in view.join_keys) for view in views):
        return
    lost = pl.all_horizontal(
        [
            pl.any_horizontal([key.name for key in view.join_keys if key.name in nulls])
            for view in views
        ]
    )
    nowhere = pl.DataFrame(nulls).select(lost).to_series()
    for name, null in nulls.items():
        reason = f"is null: a row of view '{keys[name]}' without it matches nothing"
        yield name, null & nowhere, reason


def _essential(views: Sequence[View]) -> dict[str, str]:
    """Give the columns in which no row may be null, each with the reason to say."""
    found: dict[str, str] = {}
    for view in views:
        assert view.source is not None
        found[view.source.timestamp_field] = "is null: nobody knows when it happened"
        if numbered(view) and view.event_id is not None:
            found[view.event_id] = f"is null: windows of view '{view.name}' tell events apart by it"
    return found
