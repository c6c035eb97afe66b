"""Folding tiles into one, a stretch at a time: what windows and coarser tiles are made of.

Sums are those of numbers cut at powers of two, so that all that is added is a multiple of one unit
and no addition rounds: some 106 bits come out the same whatever the stretches were.

Source: S. Rump, T. Ogita, S. Oishi, Accurate Floating-point Summation I, SIAM J. Sci. Comput. 31.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import complete, two_sum
from featurestore.engine.parts import Columns, Floats, Parts
from featurestore.model.tiles import Integers, Pick

_DIGITS = 53
_HUGE, _DOWN = 960, 200
_SHORT = 12
"""In stretches of up to two to this many numbers, two cuts leave less than counts."""

Bools = NDArray[np.bool_]


def folded(columns: Columns, parts: Parts, firsts: Integers) -> Parts:
    """Fold stretches of tiles, in their order, into one tile each.

    Stretch number i begins at `firsts[i]` and ends where the next begins; none is empty. Where
    nothing counts, what is picked is zero.
    """
    whole = np.add.reduceat(parts.whole, firsts, axis=1)
    high, low = whole[:0].astype(np.float64), whole[:0].astype(np.float64)
    if columns.summed:
        lengths = np.append(firsts[1:], parts.high.shape[1]) - firsts
        high, low = _sums(parts.high, parts.low, firsts, lengths)
    picks = []
    for pick, values in zip(columns.picks, parts.picks, strict=True):
        fold = _chosen if pick.part in ("first", "last") else _extreme
        at = [columns.inputs.index(one) for one in pick.inputs]
        picked = fold(pick, values, parts.whole[at] > 0, firsts)
        picks.append(np.where(whole[at] > 0, picked, picked.dtype.type(0)))
    return Parts(whole=whole, high=high, low=low, picks=tuple(picks))


def _extreme(pick: Pick, values: NDArray[Any], valid: Bools, firsts: Integers) -> NDArray[Any]:
    least, kind = pick.part == "min", values.dtype.kind
    if not complete(valid):
        limits = np.iinfo(values.dtype) if kind != "f" else None
        nothing = np.nan if limits is None else limits.max if least else limits.min
        values = np.where(valid, values, values.dtype.type(nothing))
    smallest, greatest = (np.fmin, np.fmax) if kind == "f" else (np.minimum, np.maximum)
    return (smallest if least else greatest).reduceat(values, firsts, axis=1)


def _chosen(pick: Pick, values: NDArray[Any], valid: Bools, firsts: Integers) -> NDArray[Any]:
    count = values.shape[1]
    if pick.part == "first":
        at = np.minimum.reduceat(np.where(valid, np.arange(count), count), firsts, axis=1)
    else:
        at = np.maximum.reduceat(np.where(valid, np.arange(count), -1), firsts, axis=1)
    return np.take_along_axis(values, np.clip(at, 0, count - 1), axis=1)


def _sums(high: Floats, low: Floats, firsts: Integers, lengths: Integers) -> tuple[Floats, Floats]:
    """Give the sums of stretches."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        top = np.maximum.reduceat(np.abs(high), firsts, axis=1)
        if complete(np.isfinite(top)):
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
    huge = exponent.max() > _HUGE
    if huge:
        down = np.where(exponent > _HUGE, -_DOWN, 0)
        spread = np.repeat(down, lengths, axis=1)
        high, low, exponent = np.ldexp(high, spread), np.ldexp(low, spread), exponent + down
    unit = np.repeat(np.ldexp(1.0, exponent), lengths, axis=1)
    cut = unit + high
    cut -= unit
    left = high - cut
    total, rest = np.add.reduceat(cut, firsts, axis=1), np.zeros(top.shape)
    for _ in range(1 if bits <= _SHORT else 2):
        unit *= 2.0 ** (bits - _DIGITS)
        np.add(unit, left, out=cut)
        cut -= unit
        left -= cut
        total, error = two_sum(total, np.add.reduceat(cut, firsts, axis=1))
        rest += error
    # What floats rounded away is as low as what is left of them: no digit that counts is lost.
    left += low
    rest += np.add.reduceat(left, firsts, axis=1)
    total, rest = two_sum(total, rest)
    if huge:
        total, rest = np.ldexp(total, -down), np.ldexp(rest, -down)
        rest = np.where(np.isfinite(total), rest, 0.0)
    return total + 0.0, rest + 0.0
