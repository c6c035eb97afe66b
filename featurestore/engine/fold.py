"""Folding tiles into one, a stretch at a time: what windows and coarser tiles are made of.

Sums are those of numbers cut at powers of two, so that all that is added is a multiple of one unit
and no addition rounds: some 106 bits come out the same whatever the stretches were.

Source: S. Rump, T. Ogita, S. Oishi, Accurate Floating-point Summation I, SIAM J. Sci. Comput. 31.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import Exact, exact, squared
from featurestore.model.tiles import Integers, Pick, Plan, Records

_DIGITS = 53
_HUGE, _DOWN = 960, 200
_SHORT = 12
"""In stretches of up to two to this many numbers, two cuts leave less than counts."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def lifted(plan: Plan, events: Records) -> Records:
    """Give each event as a tile of its own, which starts as it happens."""
    tiles = np.zeros(len(events), plan.tile)
    if not len(events):
        return tiles
    tiles["start"] = events["event"]
    columns = len(plan.columns)
    tiles["n"] = np.unpackbits(events["valid"], axis=1, count=columns, bitorder="little")
    values = {dtype: np.ascontiguousarray(events[dtype].T) for dtype in plan.values}
    for at, place in enumerate(plan.ints):
        dtype = plan.columns[place].dtype
        tiles["ints"][:, at] = values[dtype][plan.values[dtype].index(place)]
    if plan.sums or plan.squares:
        tiles["high"], tiles["low"] = (part.T for part in _numbers(plan, values))
    for pick in plan.picks:
        found = values[pick.dtype][[plan.values[pick.dtype].index(at) for at in pick.inputs]]
        if found.dtype.kind == "f":
            found = np.where(np.isnan(found), found.dtype.type(np.nan), found)
            found = found + 0 if pick.part in ("min", "max") else found
        tiles[pick.name] = found.T
    return tiles


def _numbers(plan: Plan, values: Mapping[str, NDArray[Any]]) -> tuple[Floats, Floats]:
    """Give what is summed of events as exact numbers, those that are squared last."""
    shape = (len(plan.columns), next(iter(values.values())).shape[1])
    numbers = Exact(np.zeros(shape), np.zeros(shape))
    for dtype, places in plan.values.items():
        number = exact(values[dtype].reshape(-1))
        numbers.high[list(places)] = number.high.reshape(len(places), -1)
        numbers.low[list(places)] = number.low.reshape(len(places), -1)
    high, low = numbers.high[list(plan.sums)], numbers.low[list(plan.sums)]
    if plan.squares:
        at = list(plan.squares)
        above = squared(Exact(numbers.high[at], numbers.low[at]))
        high, low = np.concatenate([high, above.high]), np.concatenate([low, above.low])
    if np.isfinite(high).all():
        return high + 0.0, low + 0.0
    return np.where(np.isnan(high), np.nan, high + 0.0), np.where(np.isfinite(high), low + 0.0, 0.0)


def folded(plan: Plan, tiles: Records, firsts: Integers) -> Records:
    """Fold stretches of tiles, in their order, into one tile each, which starts as the first does.

    Stretch number i begins at `firsts[i]` and ends where the next begins; none is empty.
    """
    found = np.zeros(len(firsts), plan.tile)
    if not len(firsts):
        return found
    found["start"] = tiles["start"][firsts]
    counts = _rows(tiles, "n")
    found["n"] = np.add.reduceat(counts, firsts, axis=1, dtype=np.uint32).T
    if plan.ints:
        found["ints"] = np.add.reduceat(_rows(tiles, "ints"), firsts, axis=1).T
    if plan.sums or plan.squares:
        lengths = np.append(firsts[1:], len(tiles)) - firsts
        high, low = _sums(_rows(tiles, "high"), _rows(tiles, "low"), firsts, lengths)
        found["high"], found["low"] = high.T, low.T
    for pick in plan.picks:
        fold = _chosen if pick.part in ("first", "last") else _extreme
        valid = counts[list(pick.inputs)] > 0
        found[pick.name] = fold(pick, _rows(tiles, pick.name), valid, firsts).T
    return found


def taken(records: Records, places: NDArray[Any]) -> Records:
    """Give the records at some places, or where a mask says so."""
    # As plain bytes, a seventh of the time that NumPy takes field by field.
    found: Records = _plain(records)[places].view(records.dtype)
    return found


def joined(one: Records, two: Records) -> Records:
    """Give records, and others of the same kind after them."""
    if not len(two):
        return one
    return np.concatenate([_plain(one), _plain(two)]).view(one.dtype)


def _plain(records: Records) -> Records:
    return records.view(f"V{records.dtype.itemsize}")


def _rows(tiles: Records, name: str) -> NDArray[Any]:
    """Give a copy of a field with a row per column: folding runs along rows."""
    return np.array(tiles[name].T, order="C")


def _extreme(pick: Pick, values: NDArray[Any], valid: Bools, firsts: Integers) -> NDArray[Any]:
    least = pick.part == "min"
    kind = values.dtype.kind
    every = valid.all()
    if not every:
        limits = np.iinfo(values.dtype) if kind != "f" else None
        nothing = np.nan if limits is None else limits.max if least else limits.min
        values = np.where(valid, values, values.dtype.type(nothing))
    smallest, greatest = (np.fmin, np.fmax) if kind == "f" else (np.minimum, np.maximum)
    found = (smallest if least else greatest).reduceat(values, firsts, axis=1)
    if every:
        return found
    return np.where(np.logical_or.reduceat(valid, firsts, axis=1), found, values.dtype.type(0))


def _chosen(pick: Pick, values: NDArray[Any], valid: Bools, firsts: Integers) -> NDArray[Any]:
    count = values.shape[1]
    if pick.part == "first":
        at = np.minimum.reduceat(np.where(valid, np.arange(count), count), firsts, axis=1)
    else:
        at = np.maximum.reduceat(np.where(valid, np.arange(count), -1), firsts, axis=1)
    there = (at >= 0) & (at < count)
    found = np.take_along_axis(values, np.where(there, at, 0), axis=1)
    return np.where(there, found, values.dtype.type(0))


def _sums(high: Floats, low: Floats, firsts: Integers, lengths: Integers) -> tuple[Floats, Floats]:
    """Give the sums of stretches; high and low may be overwritten."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        top = np.maximum.reduceat(np.abs(high), firsts, axis=1)
        if np.isfinite(top).all():
            return _finite_sums(high, low, top, firsts, lengths)
        finite = np.isfinite(high)
        odd = np.add.reduceat(np.where(finite, 0.0, high), firsts, axis=1)
        high = np.where(finite, high, 0.0)
        top = np.maximum.reduceat(np.abs(high), firsts, axis=1)
        sums = _finite_sums(high, low, top, firsts, lengths)
        poisoned = odd != 0
        odd = np.where(np.isnan(odd), np.nan, odd)
        return np.where(poisoned, odd, sums[0]), np.where(poisoned, 0.0, sums[1])


def _finite_sums(
    high: Floats, low: Floats, top: Floats, firsts: Integers, lengths: Integers
) -> tuple[Floats, Floats]:
    bits = int(lengths.max() + 1).bit_length()
    exponent = np.frexp(top)[1] + bits
    down = np.where(exponent > _HUGE, -_DOWN, 0)
    huge = bool(down.any())
    if huge:
        spread = np.repeat(down, lengths, axis=1)
        high, low, exponent = np.ldexp(high, spread), np.ldexp(low, spread), exponent + down
    unit = np.repeat(np.ldexp(1.0, exponent), lengths, axis=1)
    left = np.stack([high, low]) if low.any() else high[None]
    cut = unit + left[0]
    cut -= unit
    left[0] -= cut
    total, rest = np.add.reduceat(cut, firsts, axis=1), np.zeros_like(top)
    for _ in range(1 if bits <= _SHORT else 2):
        unit *= 2.0 ** (bits - _DIGITS)
        cuts = unit + left
        cuts -= unit
        left -= cuts
        for part in np.add.reduceat(cuts, firsts, axis=2):
            total, error = _two_sum(total, part)
            rest += error
    for part in np.add.reduceat(left, firsts, axis=2):
        rest += part
    total, rest = _two_sum(total, rest)
    if huge:
        total, rest = np.ldexp(total, -down), np.ldexp(rest, -down)
        rest = np.where(np.isfinite(total), rest, 0.0)
    return total + 0.0, rest + 0.0


def _two_sum(one: Floats, two: Floats) -> tuple[Floats, Floats]:
    total = one + two
    of_two = total - one
    return total, (one - (total - of_two)) + (two - of_two)
