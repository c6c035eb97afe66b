"""Which events count for a key at a moment, as stretches of rows that stand side by side.

An event counts from the moment it is known until a newer version of it is. Most events become known
in the order in which they happened (the punctual ones): of those known by a moment, the ones since
another moment are one stretch, with its ends found by binary search. The others stand in a segment
tree over their key's moments: each belongs to the few nodes that cover just the time it counts, in
every node events keep their order, and a moment lies in one node of each level; so what counts is
one stretch more per level. Stretches never overlap, and together they hold each event once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

NEVER = 2**63 - 1
"""The moment at which an event is gone that no newer version ever replaces."""

_SPREAD = np.uint64(0x9E37_79B9_7F4A_7C15)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Events:
    """Events of a part: those of key n are `starts[n]` to `starts[n + 1]`, in deciding order.

    That is ascending (event, created, revision, number). Moments are UTC microseconds: an event
    counts from `known` (never before `event`) until before `gone`, `NEVER` for one that stays; None
    says that all stay.
    """

    starts: Integers
    event: Integers
    known: Integers
    gone: Integers | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Span:
    """Stretches of rows `[low, high)`, one for each of the questions `asked` (None: of all)."""

    asked: Integers | None
    low: Integers
    high: Integers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """Some of the events, `rows` (None: all, as they are), and by window what counts of them."""

    rows: Integers | None
    spans: Sequence[Span]


def layers(
    events: Events, key: Integers, at: Integers, since: Sequence[Integers]
) -> Iterator[Layer]:
    """Give what counts for each question (key, moment), by window: `since` says where each begins.

    A key of -1 has no events. An event that counts is in one stretch of one layer. The first layer
    answers all questions.
    """
    stays = _punctual(events)
    if stays is None:
        yield Layer(rows=None, spans=_known_by(events, key, at, since))
        return
    rows = np.flatnonzero(stays)
    punctual = Events(
        starts=prefix(stays).take(events.starts),
        event=events.event.take(rows),
        known=events.known.take(rows),
        gone=None,
    )
    yield Layer(rows=rows, spans=_known_by(punctual, key, at, since))
    others = ~stays if events.gone is None else ~stays & (events.gone > events.known)
    yield from _stabbed(events, np.flatnonzero(others), key, at, since)


def superseded(
    *,
    key: Integers,
    number: Integers,
    created: Integers,
    revision: Integers,
    event: Integers,
    known: Integers,
) -> Integers | None:
    """Give when each row of a part is replaced by a newer version of its event, None if none is.

    Rows equal in key and number are versions of one event, the newer the greater (created,
    revision, event, place). `gone` is the least `known` of the newer ones, `NEVER` without one.
    """
    mixed = identities(key, number)
    ordered = np.sort(mixed)
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    order = np.argsort(mixed)
    alike = mixed[order[1:]] == mixed[order[:-1]]
    rows = np.sort(order[np.append(alike, False) | np.append(False, alike)])
    of = (event, revision, created, number, key)
    rows = rows[np.lexsort([column[rows] for column in of])]
    same = (key[rows][1:] == key[rows][:-1]) & (number[rows][1:] == number[rows][:-1])
    if not same.any():
        return None
    gone = np.full(len(key), NEVER)
    gone[rows] = _least_after(known[rows], prefix(~same))
    return gone


def identities(key: Integers, number: Integers) -> NDArray[np.uint64]:
    """Give one number for each key and number; two pairs share it once in 2**64 cases."""
    return key.astype(np.uint64) * _SPREAD + number.astype(np.uint64)


def search(
    values: NDArray[np.int64], first: Integers, end: Integers, moment: Integers, *, through: bool
) -> Integers:
    """Give where in `[first, end)`, ascending, the values before a moment end; or `through` it.

    A binary search of all questions side by side: as many steps as the longest stretch has bits,
    each of which passes over half of what is left where the value before its end is before.
    """
    low, before = first, np.less_equal if through else np.less
    for power in reversed(range(int((end - first).max(initial=0)).bit_length())):
        probe = low + ((1 << power) - 1)
        passed = before(values.take(probe, mode="clip"), moment)
        passed &= probe < end
        low = low + (passed.astype(np.int64) << power)
    return low


def prefix(values: NDArray[np.generic]) -> Integers:
    """Give the sums of the first 0, 1, 2, … values; beyond int64 they wrap."""
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, dtype=np.int64, out=sums[1:])
    return sums


def _punctual(events: Events) -> NDArray[np.bool_] | None:
    """Say which events stay and are known before all later ones of their key; None: all are."""
    known = events.known
    if events.gone is None:
        ascends = known[1:] >= known[:-1]
        ascends[(edges := events.starts[1:-1])[(edges > 0) & (edges < len(known))] - 1] = True
        if ascends.all():
            return None
    owner = np.repeat(np.arange(len(events.starts) - 1), np.diff(events.starts))
    stays = np.ones(len(known), np.bool_) if events.gone is None else events.gone == NEVER
    stays &= known <= _least_after(np.where(stays, known, NEVER), owner)
    return stays


def _least_after(values: Integers, owner: Integers) -> Integers:
    """Give the least of the values after each one, of the same owner; `NEVER` where none is.

    Owners ascend. Each pass doubles how far a value looks.
    """
    least = np.full(len(values), NEVER)
    if not len(values):
        return least
    np.copyto(least[:-1], values[1:], where=owner[1:] == owner[:-1])
    reach, longest = 1, int(np.bincount(owner).max())
    while reach < longest:
        near = owner[reach:] == owner[:-reach]
        np.minimum(least[:-reach], least[reach:], out=least[:-reach], where=near)
        reach *= 2
    return least


def _bounds(starts: Integers, key: Integers) -> tuple[Integers, Integers]:
    """Give where each key's stretch begins and ends; that of -1 is empty."""
    first = starts.take(key, mode="clip")
    return first, np.where(key < 0, first, starts.take(key + 1, mode="clip"))


def _known_by(
    events: Events, key: Integers, at: Integers, since: Sequence[Integers]
) -> Sequence[Span]:
    """Find the stretches among events that become known in their order."""
    first, end = _bounds(events.starts, key)
    high = search(events.known, first, end, at, through=True)
    lows = (search(events.event, first, high, tail, through=False) for tail in since)
    return [Span(asked=None, low=low, high=high) for low in lows]


def _stabbed(
    events: Events, rows: Integers, key: Integers, at: Integers, since: Sequence[Integers]
) -> Iterator[Layer]:
    """Lay events that count for a time into a tree of their key's moments, and go up its levels."""
    known = events.known[rows]
    gone = np.full(len(rows), NEVER) if events.gone is None else events.gone[rows]
    owner = np.searchsorted(events.starts, rows, side="right") - 1
    ends = gone != NEVER
    moments, owners = np.append(known, gone[ends]), np.append(owner, owner[ends])
    moments = moments[np.lexsort((moments, owners))]
    starts = prefix(np.bincount(owners, minlength=len(events.starts) - 1))

    def leaf(keys: Integers, moment: Integers) -> Integers:
        # A key has one leaf more than moments: the time before them all.
        return search(moments, *_bounds(starts, keys), moment, through=True) + keys

    left, right = leaf(owner, known), leaf(owner, gone) + (gone == NEVER)
    asked = np.flatnonzero((key >= 0) & (np.diff(starts).take(key, mode="clip") > 0))
    leaves, level = leaf(key[asked], at[asked]), 0
    while len(rows) and len(asked):
        lefts, rights = (left & 1) == 1, (right & 1) == 1
        nodes = np.append(left[lefts], right[rights] - 1)
        held = np.append(rows[lefts], rows[rights])
        held = held[np.lexsort((held, nodes))]
        fences = prefix(np.bincount(nodes, minlength=(int(leaves.max()) >> level) + 1))
        spans = _in_nodes(fences, leaves >> level, asked, events.event[held], since)
        if any(len(span.low) for span in spans):
            yield Layer(rows=held, spans=spans)
        left, right, level = (left + 1) >> 1, right >> 1, level + 1
        rows, left, right = (one[left < right] for one in (rows, left, right))


def _in_nodes(
    fences: Integers,
    node: Integers,
    asked: Integers,
    event: Integers,
    since: Sequence[Integers],
) -> Sequence[Span]:
    """Find the stretches of one level: of a question's node, what is not before its window."""
    low, high = fences.take(node), fences.take(node + 1)
    some = np.flatnonzero(low < high)
    low, high, asked = low[some], high[some], asked[some]
    spans = []
    for tail in since:
        begin = search(event, low, high, tail[asked], through=False)
        hit = np.flatnonzero(begin < high)
        spans.append(Span(asked=asked[hit], low=begin[hit], high=high[hit]))
    return spans
