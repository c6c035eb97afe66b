"""Whether tables hold every moment a training set needs, and what to run where they do not."""

from collections.abc import Collection
from datetime import UTC, datetime

from featurestore.errors import NotMaterialized
from featurestore.model.documents import View
from featurestore.model.time import BEGINNING, Interval, gaps, micros, moment, show, watermark
from featurestore.model.windows import age

EARLIEST = micros(datetime(1, 1, 1, tzinfo=UTC))
LATEST = micros(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))
"""The first and the last microsecond of the calendar; tables and entity rows lie between."""


def needed(
    view: View, first: int, last: int, *, as_known: bool, asked: Collection[str] | None = None
) -> Interval | None:
    """Give the known-at moments that entity rows from `first` to `last` can depend on.

    `asked` are the features asked for (None: all). A row exactly ttl old counts, so the interval
    opens one microsecond before it. A row is known `delay` after its event at the earliest; without
    `as_known` the rows of the last `delay` count too. None if no row can matter (the delay outlasts
    the ttl).
    """
    oldest = age(view, [one.name for one in view.features] if asked is None else asked)
    start = EARLIEST - 1 if oldest is None else first - oldest + view.delay - 1
    end = last if as_known else last + view.delay
    start, end = max(start, EARLIEST - 1), min(end, LATEST)
    return Interval(start=start, end=end) if start < end else None


def require(
    view: View, need: Interval, covered: tuple[Interval, ...], *, allow_stale: bool = False
) -> None:
    """Refuse a need that the covered intervals do not hold.

    With `allow_stale` moments after the watermark are accepted, as long as there is one.

    Raises:
        NotMaterialized: names the view, the first gap and the command that fills it.
    """
    mark = watermark(covered)
    if allow_stale and mark is not None:
        if need.start >= mark:
            return
        need = Interval(start=need.start, end=min(need.end, mark))
    missing = gaps(need, covered)
    if not missing:
        return
    gap = missing[0]
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    raise NotMaterialized(
        f"{view.name}: {view.version} is not materialized from {_start(gap)} to {show(gap.end)}"
        f"{more}; {_way_out(gap, mark)}"
    )


def _start(gap: Interval) -> str:
    return show(BEGINNING if gap.start < EARLIEST else gap.start + 1)


def _way_out(gap: Interval, mark: int | None) -> str:
    if mark is not None and gap.start >= mark:
        return (
            f"run `featurestore materialize-incremental {_iso(gap.end)}`, or pass "
            "allow_stale=True to accept what was known at the watermark"
        )
    start = _iso(max(gap.start + 1, EARLIEST))
    return f"run `featurestore materialize {start} {_iso(gap.end)}`"


def _iso(us: int) -> str:
    return moment(us).replace(tzinfo=None).isoformat()
