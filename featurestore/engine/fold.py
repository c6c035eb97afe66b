"""Folding tiles into one, a stretch at a time: what windows and coarser tiles are made of.

Sums are those of numbers cut at powers of two, so that all that is added is a multiple of one unit
and no addition rounds: some 106 bits come out the same whatever the stretches were.

Source: S. Rump, T. Ogita, S. Oishi, Accurate Floating-point Summation I, SIAM J. Sci. Comput. 31.
"""

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, exact, squared
from featurestore.model.tiles import Integers, Pick, Plan, Records

_DIGITS = 53
_HUGE, _DOWN = 960, 200
_SHORT = 12
"""In stretches of up to two to this many numbers, two cuts leave less than counts."""

Floats = NDArray[np.float64]


def lifted(plan: Plan, events: Records) -> Records:
    """Give each event as a tile of its own, which starts at the event's time."""
    tiles = np.zeros(len(events), plan.tile)
    if not len(events):
        return tiles
    tiles["start"] = events["event"]
    columns = len(plan.columns)
    tiles["n"] = np.unpackbits(events["valid"], axis=1, count=columns, bitorder="little")
    values = {place: (d, at) for d, of in plan.values.items() for at, place in enumerate(of)}
    for at, place in enumerate(plan.ints):
        dtype, column = values[place]
        tiles["ints"][:, at] = events[dtype][:, column]
    numbers = [exact(np.ascontiguousarray(events[d][:, c])) for d, c in map(values.get, plan.sums)]  # type: ignore[misc]
    for dtype, column in (values[place] for place in plan.squares):
        numbers.append(squared(exact(np.ascontiguousarray(events[dtype][:, column]))))
    for at, number in enumerate(numbers):
        finite = np.isfinite(number.high)
        tiles["high"][:, at] = np.where(np.isnan(number.high), np.nan, number.high + 0.0)
        tiles["low"][:, at] = np.where(finite, number.low, 0.0)
    for pick in plan.picks:
        own = plan.values[pick.dtype]
        found = events[pick.dtype][:, [own.index(place) for place in pick.inputs]]
        if pick.part in ("min", "max") and found.dtype.kind == "f":
            found = np.where(np.isnan(found), np.nan, found + 0)
        tiles[pick.name] = found
    return tiles


def folded(plan: Plan, tiles: Records, firsts: Integers) -> Records:
    """Fold stretches of tiles, in their order, into one tile each, which starts as the first does.

    Stretch number i begins at `firsts[i]` and ends where the next begins; none is empty.
    """
    found = np.zeros(len(firsts), plan.tile)
    if not len(firsts):
        return found
    found["start"] = tiles["start"][firsts]
    counts = tiles["n"]
    found["n"] = np.add.reduceat(counts, firsts, axis=0)
    if plan.ints:
        found["ints"] = np.add.reduceat(tiles["ints"], firsts, axis=0)
    if plan.sums or plan.squares:
        ends = np.append(firsts[1:], len(tiles))
        sums = _sums(_plain(tiles["high"]), _plain(tiles["low"]), firsts, ends - firsts)
        found["high"], found["low"] = sums
    for pick in plan.picks:
        fold = _chosen if pick.part in ("first", "last") else _extreme
        found[pick.name] = fold(pick, tiles[pick.name], counts[:, pick.inputs] > 0, firsts)
    return found


def _extreme(
    pick: Pick, values: NDArray[np.generic], valid: NDArray[np.bool_], firsts: Integers
) -> NDArray[np.generic]:
    least = pick.part == "min"
    kind = values.dtype.kind
    nothing = np.nan
    if kind != "f":
        limits = np.iinfo(values.dtype.name)
        nothing = limits.max if least else limits.min
    every = valid.all()
    shown = values if every else np.where(valid, values, values.dtype.type(nothing))
    smallest, greatest = (np.fmin, np.fmax) if kind == "f" else (np.minimum, np.maximum)
    found = (smallest if least else greatest).reduceat(shown, firsts, axis=0)
    if every:
        return found
    return np.where(np.logical_or.reduceat(valid, firsts, axis=0), found, values.dtype.type(0))


def _chosen(
    pick: Pick, values: NDArray[np.generic], valid: NDArray[np.bool_], firsts: Integers
) -> NDArray[np.generic]:
    count = len(values)
    if pick.part == "first":
        at = np.minimum.reduceat(np.where(valid, np.arange(count)[:, None], count), firsts, axis=0)
    else:
        at = np.maximum.reduceat(np.where(valid, np.arange(count)[:, None], -1), firsts, axis=0)
    there = (at >= 0) & (at < count)
    found = np.take_along_axis(values, np.where(there, at, 0), axis=0)
    return np.where(there, found, values.dtype.type(0))


def _sums(high: Floats, low: Floats, firsts: Integers, lengths: Integers) -> tuple[Floats, Floats]:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        finite = np.isfinite(high)
        if finite.all():
            return _finite_sums(high, low, firsts, lengths)
        odd = np.add.reduceat(np.where(finite, 0.0, high), firsts, axis=0)
        sums = _finite_sums(np.where(finite, high, 0.0), low, firsts, lengths)
        poisoned = odd != 0
        odd = np.where(np.isnan(odd), np.nan, odd)
        return np.where(poisoned, odd, sums[0]), np.where(poisoned, 0.0, sums[1])


def _finite_sums(
    high: Floats, low: Floats, firsts: Integers, lengths: Integers
) -> tuple[Floats, Floats]:
    top = np.maximum.reduceat(np.abs(high), firsts, axis=0)
    bits = int(lengths.max() + 1).bit_length()
    exponent = np.frexp(top)[1] + bits
    down = np.where(exponent > _HUGE, -_DOWN, 0)
    huge = bool(down.any())
    if huge:
        spread = np.repeat(down, lengths, axis=0)
        high, low, exponent = np.ldexp(high, spread), np.ldexp(low, spread), exponent + down
    unit = np.repeat(np.ldexp(1.0, exponent), lengths, axis=0)
    cut = (unit + high) - unit
    total, rest = np.add.reduceat(cut, firsts, axis=0), np.zeros_like(top)
    streams = [high - cut, low] if low.any() else [high - cut]
    for _ in range(1 if bits <= _SHORT else 2):
        unit = unit * 2.0 ** (bits - _DIGITS)
        for at, stream in enumerate(streams):
            cut = (unit + stream) - unit
            total, error = _two_sum(total, np.add.reduceat(cut, firsts, axis=0))
            rest, streams[at] = rest + error, stream - cut
    for stream in streams:
        rest = rest + np.add.reduceat(stream, firsts, axis=0)
    total, rest = _two_sum(total, rest)
    if huge:
        total, rest = np.ldexp(total, -down), np.ldexp(rest, -down)
        rest = np.where(np.isfinite(total), rest, 0.0)
    return total + 0.0, rest + 0.0


def _two_sum(one: Floats, two: Floats) -> tuple[Floats, Floats]:
    total = one + two
    of_two = total - one
    return total, (one - (total - of_two)) + (two - of_two)


def _plain(values: NDArray[np.float64]) -> Floats:
    return np.ascontiguousarray(values)


def pairs(tiles: Records) -> Exact:
    """Give the exact sums of tiles, those of squares last."""
    return Exact(_plain(tiles["high"]), _plain(tiles["low"]))
