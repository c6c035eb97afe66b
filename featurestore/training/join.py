"""The point-in-time join of one view: pure functions of frames.

Among the rows of a key that are known by a moment t, the one with the greatest (event, created,
revision) answers. Two dimensions (order and known-at) become one: number the rows in deciding
order (`rank`), walk them by the time they became known, and keep the greatest rank seen so far; an
as-of join on known-at then finds the answer. No window per key is needed, since ranks grow with
the key: the greatest rank seen so far always belongs to the key being walked.

Only keys and times travel through the join; features are gathered once, by row number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.model.time import CREATED, EVENT, KNOWN, MOMENT, REVISION

_RANK = "rank"
_ROW = "row"
_AT = "at"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """The rows of a view in deciding order: row number i of `ordered` has rank i.

    `ordered` holds the keys (`k0`, `k1`, …), `event_timestamp` and `known_at` as integer
    microseconds, and `row`, the row's number in the frame it was made from.
    """

    ordered: pl.DataFrame
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one lookup found for each entity row, in order.

    `row` numbers the row whose values count (null: none known, or older than the ttl);
    `event_time` is the found row's, expired or not. Of `valued` entity rows that would have a
    value by event time alone, `withheld` would have had another one: it was not yet known.
    """

    row: pl.Series
    event_time: pl.Series
    withheld: int
    valued: int


def timeline(rows: pl.DataFrame, keys: Sequence[str]) -> Timeline:
    """Order the rows of a view; rows with a null key or time can never answer and are left out."""
    named = tuple(f"k{number}" for number in range(len(keys)))
    columns = [pl.col(key).alias(name) for key, name in zip(keys, named, strict=True)]
    ordered = (
        rows.select(
            *columns,
            pl.col(EVENT, CREATED, KNOWN).cast(MOMENT).to_physical(),
            pl.col(REVISION),
        )
        .with_row_index(_ROW)
        .drop_nulls([*named, EVENT, KNOWN])
        .sort(*named, EVENT, CREATED, REVISION, nulls_last=False)
        .drop(CREATED, REVISION)
    )
    return Timeline(ordered=ordered, keys=named)


def look_up(
    line: Timeline,
    *,
    keys: Sequence[pl.Series],
    time: pl.Series,
    ttl: int | None,
    as_known: bool,
) -> Found:
    """Find the row that answers for each (key, moment); a null among them finds none.

    `keys` follow the order of the timeline's keys and have its dtypes; `time` is UTC microseconds.
    `ttl` is in microseconds, inclusive: a row exactly that old still counts. With `as_known` a row
    answers only from its known-at on, else from its event time on.
    """
    asked = (
        pl.DataFrame([time.to_physical().alias(_AT)])
        .with_columns(key.alias(name) for key, name in zip(keys, line.keys, strict=True))
        .with_row_index(_ROW)
    )
    by_event = _as_of(line, asked, EVENT)
    late = bool((line.ordered[KNOWN] != line.ordered[EVENT]).any())
    rank = _as_of(line, asked, KNOWN) if as_known and late else by_event
    event, fresh = _fresh(line, asked, rank, ttl)
    _, valued = _fresh(line, asked, by_event, ttl)
    withheld = valued & by_event.ne_missing(rank)
    row = line.ordered[_ROW].gather(rank)
    return Found(
        row=pl.select(pl.when(fresh).then(row)).to_series(),
        event_time=event.cast(MOMENT),
        withheld=int(withheld.sum()),
        valued=int(valued.sum()),
    )


def gather(rows: pl.DataFrame, found: pl.Series, names: Sequence[str]) -> pl.DataFrame:
    """Give the named columns at the row numbers found; null where the number is null."""
    return rows.select(pl.col(name).gather(found) for name in names)


def _as_of(line: Timeline, asked: pl.DataFrame, moment: str) -> pl.Series:
    """Give the rank that answers each asked row, taking rows to appear at `moment`."""
    seen = (
        line.ordered.select(*line.keys, moment)
        .with_row_index(_RANK)
        .sort(*line.keys, moment, _RANK)
        .with_columns(pl.col(_RANK).cum_max())
    )
    # Sortedness cannot be checked per key, and an unsorted side is silently wrong: both are
    # sorted right here.
    joined = (
        asked.drop_nulls()
        .sort(_AT)
        .join_asof(
            seen,
            left_on=_AT,
            right_on=moment,
            by=list(line.keys) or None,
            strategy="backward",
            check_sortedness=False,
        )
    )
    nothing = pl.Series(_RANK, [None], dtype=pl.get_index_type()).new_from_index(0, len(asked))
    return nothing.scatter(joined[_ROW], joined[_RANK])


def _fresh(
    line: Timeline, asked: pl.DataFrame, rank: pl.Series, ttl: int | None
) -> tuple[pl.Series, pl.Series]:
    """Give the event time (integer microseconds) at each rank, and whether its value counts."""
    event = line.ordered[EVENT].gather(rank)
    if ttl is None:
        return event, event.is_not_null()
    return event, (asked[_AT] - event <= min(ttl, 2**63 - 1)).fill_null(value=False)
