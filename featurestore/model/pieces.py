"""Pieces: what the runs of a table read of its source, cut small enough to be read again alone.

Every run records, for each piece of its interval, how many source rows it read there and a digest
of them. Of all runs the standing pieces follow, and from those and the source which of them are no
longer what was read.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from featurestore.model.time import Interval, union

MOST = 200
"""Into how many pieces of equal length a run's interval is cut at most."""

_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a source holds in an interval: `rows`, and a digest that no order of them changes."""

    interval: Interval
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a table as its newest run read it; `read` None: what was read is not known.

    `source` is the state that the whole source was in (empty: not known), `number` the run's.
    """

    interval: Interval
    read: Read | None
    source: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """That every piece of runs up to `number` was found to be what the source held in a state."""

    source: str
    number: int


def cut(interval: Interval, *, first: int | None, settle: int) -> tuple[Interval, ...]:
    """Cut a run's interval into pieces: at days or multiples of them, and where runs will meet.

    The next incremental run starts `settle` before the end, and the next one of the kind `START
    END`, whose START is this END, a microsecond before it. `first` is the first moment that the
    source knows a row of (None: it knows none); what is before stays in one piece.
    """
    start, end = interval.start, interval.end
    edges = {end - settle, end - 1}
    if first is not None:
        start = max(start, first - 1)
        unit = _DAY
        while (end - start) // unit >= MOST:
            unit *= 2
        edges.update(range((start // unit + 1) * unit - 1, end, unit))
    inner = sorted(edge for edge in edges if interval.start < edge < end)
    bounds = [interval.start, *inner, end]
    return tuple(Interval(start=one, end=two) for one, two in pairwise(bounds))


def standing(runs: Iterable[Iterable[Piece]]) -> tuple[Piece, ...]:
    """Give the pieces that stand after runs, oldest run first: disjoint, the newest run's win.

    What a later run left of a piece keeps its place, and what was read there is not known.
    """
    held: list[Piece] = []
    for pieces in runs:
        for piece in pieces:
            start, end = piece.interval.start, piece.interval.end
            low = bisect_right(held, start, key=_end)
            high = bisect_left(held, end, key=_start)
            left = [_part(one, one.interval.start, start) for one in held[low:high][:1]]
            right = [_part(one, end, one.interval.end) for one in held[low:high][-1:]]
            held[low:high] = [one for one in (*left, piece, *right) if one is not None]
    return tuple(held)


def _start(piece: Piece) -> int:
    return piece.interval.start


def _end(piece: Piece) -> int:
    return piece.interval.end


def _part(piece: Piece, start: int, end: int) -> Piece | None:
    if start >= end:
        return None
    return replace(piece, interval=Interval(start=start, end=end), read=None)


def doubtful(pieces: Iterable[Piece], source: str, checked: Checked | None) -> tuple[Piece, ...]:
    """Give the pieces that were not read from, or checked against, the source in this state."""

    def sure(piece: Piece) -> bool:
        if checked and checked.source == source and piece.number <= checked.number:
            return True
        return piece.source == source

    return tuple(piece for piece in pieces if not source or not sure(piece))


def changed(
    pieces: Sequence[Piece], now: Sequence[Read], first: int | None
) -> tuple[Interval, ...]:
    """Give the merged intervals in which the source no longer holds what the pieces were read from.

    `now` is what it holds in each of them, `first` the first moment that it still knows a row of.
    What it knew before it may have let go of, as a file of the last days does: that is no change.
    """
    return union(
        Interval(start=max(piece.interval.start, first - 1), end=piece.interval.end)
        for piece, read in zip(pieces, now, strict=True)
        if first is not None and first <= piece.interval.end and piece.read != read
    )
