"""The point-in-time join of one part of a view: pure functions of arrays.

Among the rows of a key that are known by a moment t, the one with the greatest (event, created,
revision) answers. Two dimensions (order and known-at) become one: number the rows in deciding
order (their rank), walk them by the time they became known, and keep the greatest rank seen so far;
a binary search among the rows of the asked key then finds the answer. Ranks grow with the key, so
the greatest rank seen so far always belongs to the key being walked.

Only keys and times travel through the join; features are gathered once, by row number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from featurestore.engine.spans import Integers, search
from featurestore.model.documents import View
from featurestore.model.time import CREATED, EVENT, REVISION
from featurestore.model.windows import row_order

Read = Callable[[Sequence[str]], pl.DataFrame]
"""Gives some columns of all rows, in the same order each time."""

_ID = "id"
_NEVER = np.int64(-(2**63))
_LONGEST = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """The rows of a part in deciding order, key by key.

    `keys` holds each key once (`k0`, `k1`, …) with its number (`id`); the ranks of key n are
    `starts[n]` to `starts[n + 1]`. By rank: `event` (UTC microseconds) and `row`, the row's number
    in the part (None: the rank itself). `known` are the moments, key by key in ascending order, at
    which the row of rank `best` begins to answer (None: its own rank); `since` is by rank when each
    row became known. Both are `event` where every row is known at its event.
    """

    keys: pl.DataFrame
    starts: Integers
    event: Integers
    row: Integers | None
    since: Integers
    known: Integers
    best: Integers | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one lookup found for each entity row, in order.

    `key` is the number of its key (-1: none of the part's), `row` that of the row whose values
    count (null: none known, or older than the ttl). Of `valued` entity rows that would have a value
    by event time alone, `withheld` would have had another one: it was not yet known.
    """

    key: Integers
    row: pl.Series
    withheld: int
    valued: int


def counts_created(view: View) -> bool:
    """Say whether a view's created column can make a row known later than its event."""
    return bool(view.known_at == "created" and view.source and view.source.created_field)


def columns_of(view: View) -> tuple[str, ...]:
    """Name the columns that a timeline is made of."""
    created = (CREATED,) if counts_created(view) else ()
    return (*(key.name for key in view.join_keys), EVENT, *created)


def timeline(read: Read, view: View) -> Timeline:
    """Order the rows of a part; rows with a null key or time can never answer and are left out.

    Created times and revisions are read only where (key, event) does not decide.
    """
    rows, row = _answering(read(columns_of(view)), view)
    named = (pl.col(key.name).alias(f"k{n}") for n, key in enumerate(view.join_keys))
    keys, ids = _numbered(rows.select(*named), rows.height)
    event = rows[EVENT].to_physical().to_numpy()
    known = _known(rows, event, view)
    if not _ascend(ids, event, strictly=True):
        order = _deciding_order(read, row, ids, event, row_order(view)[-1])
        same = known is event
        ids, event, row = ids[order], event[order], order if row is None else row[order]
        known = event if same else known[order]
    best, since = None, known
    if known is not event and not _ascend(ids, known, strictly=False):
        shown = np.lexsort((known, ids))
        known, best = known[shown], np.maximum.accumulate(shown)
    starts = np.searchsorted(ids, np.arange(keys.height + 1))
    return Timeline(
        keys=keys, starts=starts, event=event, row=row, since=since, known=known, best=best
    )


def look_up(
    line: Timeline, asked: Sequence[pl.Series], time: pl.Series, *, ttl: int | None, as_known: bool
) -> Found:
    """Find the row that answers for each (keys, moment); a null among them finds none.

    `asked` follows the order of the view's join keys and has their dtypes; `time` is UTC
    microseconds. `ttl` is in microseconds, inclusive: a row exactly that old still counts. With
    `as_known` a row answers only from its known-at on, else from its event time on.
    """
    key = _keys(line, asked, len(time))
    if not len(line.event):
        nothing = pl.repeat(None, len(time), dtype=pl.Int64, eager=True)
        return Found(key=key, row=nothing, withheld=0, valued=0)
    at = moments(time)
    first, end = _stretches(line, key)
    by_event = _last_at(line.event, first, end, at)
    rank = by_event
    if as_known and line.known is not line.event:
        rank = _last_at(line.known, first, end, at)
        if line.best is not None:
            rank = np.where(rank < 0, rank, line.best.take(rank, mode="clip"))
    fresh = _fresh(line, rank, at, ttl)
    valued = fresh if rank is by_event else _fresh(line, by_event, at, ttl)
    row = rank if line.row is None else line.row.take(rank, mode="clip")
    numbers = pl.DataFrame({"row": row, "fresh": fresh})
    return Found(
        key=key,
        row=numbers.select(pl.when("fresh").then("row")).to_series(),
        withheld=0 if rank is by_event else int((valued & (by_event != rank)).sum()),
        valued=int(valued.sum()),
    )


def moments(time: pl.Series) -> Integers:
    """Give moments as integers; null is before all others."""
    return time.to_physical().fill_null(int(_NEVER)).to_numpy()


def _answering(rows: pl.DataFrame, view: View) -> tuple[pl.DataFrame, Integers | None]:
    """Leave out rows with a null key or event time; gives the numbers of the others, if any are."""
    decisive = [*(key.name for key in view.join_keys), EVENT]
    if not any(rows[name].null_count() for name in decisive):
        return rows, None
    kept = rows.with_row_index(_ID).drop_nulls(decisive)
    return kept, kept[_ID].cast(pl.Int64).to_numpy()


def _numbered(keys: pl.DataFrame, height: int) -> tuple[pl.DataFrame, Integers]:
    """Number the keys as they first come; gives each with its number, and the number of each row.

    Rows of a key mostly stand together: only where the key turns is it looked up.
    """
    if not keys.width:
        one = pl.DataFrame({_ID: [0]}, schema={_ID: pl.UInt32})
        return one, np.zeros(height, np.int64)
    turns = keys.select(
        pl.any_horizontal(
            pl.col(name).ne_missing(pl.col(name).shift()) for name in keys.columns
        ).alias(_ID)
    )[_ID]
    starts = turns.arg_true().to_numpy() if height else np.empty(0, np.uint32)
    heads = keys[starts]
    known = heads.unique(maintain_order=True).with_row_index(_ID)
    number = heads.join(known, on=keys.columns, how="left", maintain_order="left")[_ID]
    lengths = np.diff(starts, append=height)
    return known, np.repeat(number.cast(pl.Int64).to_numpy(), lengths)


def _known(rows: pl.DataFrame, event: Integers, view: View) -> Integers:
    """Give when each row became known; the very array of the events where that is the same."""
    known = event + view.delay if view.delay else event
    if counts_created(view) and rows[CREATED].null_count() < rows.height:
        created = rows[CREATED].to_physical().fill_null(int(_NEVER)).to_numpy()
        if (created > known).any():
            known = np.maximum(known, created)
    return known


def _ascend(ids: Integers, moments: Integers, *, strictly: bool) -> bool:
    """Say whether moments ascend within every key, and keys stand together."""
    later = moments[1:] > moments[:-1] if strictly else moments[1:] >= moments[:-1]
    return bool(((ids[1:] > ids[:-1]) | ((ids[1:] == ids[:-1]) & later)).all())


def _deciding_order(
    read: Read, row: Integers | None, ids: Integers, event: Integers, last: str
) -> Integers:
    """Sort rows by (key, event, created, revision, number); a missing created time comes first.

    Rows come in sorted stretches, a few for each file: as one number for key and event, NumPy's
    stable sort merges them in nearly linear time.
    """
    first = int(event.min())
    span = int(event.max()) - first + 1
    if (int(ids.max()) + 1) * span <= _LONGEST:
        numbers = ids * span + (event - first)
        merged = np.argsort(numbers, kind="stable")
        inorder = numbers[merged]
        if (inorder[1:] > inorder[:-1]).all():
            return merged
    order = pl.DataFrame({_ID: ids, EVENT: event}).select(pl.arg_sort_by(_ID, EVENT))
    resorted = order.to_series().cast(pl.Int64).to_numpy()
    if _ascend(ids[resorted], event[resorted], strictly=True):
        return resorted
    order_of = tuple(dict.fromkeys((CREATED, REVISION, last)))
    more = read(order_of)
    more = more if row is None else more[row]
    tied = more.with_columns(pl.Series(_ID, ids), pl.Series(EVENT, event))
    exact = tied.select(pl.arg_sort_by(_ID, EVENT, *order_of, nulls_last=False))
    return exact.to_series().cast(pl.Int64).to_numpy()


def _keys(line: Timeline, asked: Sequence[pl.Series], height: int) -> Integers:
    """Give the number of each asked key, -1 for one that has no rows."""
    if not asked:
        return np.zeros(height, np.int64)
    named = pl.DataFrame([key.alias(f"k{number}") for number, key in enumerate(asked)])
    joined = named.join(line.keys, on=named.columns, how="left", maintain_order="left")
    return joined[_ID].cast(pl.Int64).fill_null(-1).to_numpy()


def _stretches(line: Timeline, number: Integers) -> tuple[Integers, Integers]:
    """Give the ranks at which the rows of each key begin and end; a strange key has none."""
    first = line.starts.take(number, mode="clip")
    return first, np.where(number < 0, first, line.starts.take(number + 1, mode="clip"))


def _last_at(values: Integers, first: Integers, end: Integers, at: Integers) -> Integers:
    """Give the last index in `[first, end)` whose value is at most `at`, -1 if there is none."""
    after = search(values, first, end, at, through=True)
    return np.where(after > first, after - 1, -1)


def _fresh(line: Timeline, rank: Integers, at: Integers, ttl: int | None) -> NDArray[np.bool_]:
    """Say whether a row was found, and is not older than the ttl."""
    found = rank >= 0
    if ttl is None:
        return found
    age = at - line.event.take(rank, mode="clip")
    return found & (age <= min(ttl, _LONGEST))
