"""Folding tiles into one, a stretch at a time: what windows and coarser tiles are made of.

Sums are those of numbers cut at powers of two, so that all that is added is a multiple of one unit
and no addition rounds: some 106 bits come out the same whatever the stretches were.

Source: S. Rump, T. Ogita, S. Oishi, Accurate Floating-point Summation I, SIAM J. Sci. Comput. 31.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.engine.exact import complete, two_sum
from featurestore.engine.parts import Columns, Floats, Group, Parts
from featurestore.model.tiles import Integers

_DIGITS = 53
_HUGE, _DOWN = 960, 200
_SHORT = 12
"""In stretches of up to two to this many numbers, two cuts leave less than counts."""

Bools = NDArray[np.bool_]


def folded(columns: Columns, parts: Parts, firsts: Integers) -> Parts:
    """Fold stretches of tiles, in their order, into one tile each.

    Stretch number i begins at `firsts[i]` and ends where the next begins; none is empty.
    """
    whole = np.add.reduceat(parts.whole, firsts, axis=1)
    high = low = np.empty((0, len(firsts)))
    if len(parts.high):
        lengths = np.append(firsts[1:], parts.high.shape[1]) - firsts
        high, low = _sums(parts.high, parts.low, firsts, lengths)
    picks = []
    for group, values in zip(columns.groups, parts.picks, strict=True):
        if group.part in ("min", "max"):
            picks.append(_extreme(group, values, firsts))
        else:
            picks.append(_chosen(group, values, parts.whole[group.counts] > 0, firsts))
    return Parts(whole=whole, high=high, low=low, picks=tuple(picks))


def _extreme(group: Group, values: NDArray[Any], firsts: Integers) -> NDArray[Any]:
    floats = values.dtype.kind == "f"
    smallest, greatest = (np.fmin, np.fmax) if floats else (np.minimum, np.maximum)
    found = (smallest if group.part == "min" else greatest).reduceat(values, firsts, axis=1)
    # Never -0.0, which may or may not be less than 0.0.
    return found + 0.0 if floats else found


def _chosen(group: Group, values: NDArray[Any], valid: Bools, firsts: Integers) -> NDArray[Any]:
    count = values.shape[1]
    if group.part == "first":
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
        spread = _repeated(down, lengths)
        high, low, exponent = np.ldexp(high, spread), np.ldexp(low, spread), exponent + down
    unit = _repeated(np.ldexp(1.0, exponent), lengths)
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


def _repeated(values: NDArray[Any], lengths: Integers) -> NDArray[Any]:
    """Give each stretch's value to all that is in it."""
    return values if len(lengths) == 1 else np.repeat(values, lengths, axis=1)
