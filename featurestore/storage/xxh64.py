"""The xxHash64 (seed 0) of millions of byte strings that are never made as objects.

Strings of one length are the rows of a matrix, and each step of the algorithm runs over all of them
at once. Those that are objects already are hashed by the library of that name.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

# The constants of xxHash64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_SEEDS = np.array([int(_P1) + int(_P2) - 2**64, _P2, 0, 2**64 - int(_P1)], np.uint64)
_SHIFT = tuple(map(np.uint64, range(64)))

Hashes = NDArray[np.uint64]


def alike(*lengths: NDArray[np.integer[Any]]) -> list[NDArray[np.intp]]:
    """Give the places of rows whose lengths are the same, group by group."""
    order = np.lexsort(lengths)
    moved = [np.diff(each[order]) != 0 for each in lengths]
    return np.split(order, np.flatnonzero(np.logical_or.reduce(moved)) + 1) if len(order) else []


def cells_of(flat: NDArray[np.uint8], starts: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Cut equally long stretches out of a buffer, as the rows of a matrix."""
    stretches: NDArray[np.uint8] = as_strided(flat, (len(flat) - width + 1, width), (1, 1))
    return stretches[starts]


def _rotate(values: Hashes, bits: int) -> Hashes:
    return (values << _SHIFT[bits]) | (values >> _SHIFT[64 - bits])


def _mixed(word: Hashes) -> Hashes:
    """One round over a fresh lane."""
    return _rotate(word * _P2, 31) * _P1


def hash_rows(rows: NDArray[np.uint8]) -> Hashes:
    """Give the hash of each row of a matrix of bytes."""
    count, width = rows.shape
    stripes, whole = width // 32 * 4, width // 8
    words = np.ascontiguousarray(rows[:, : whole * 8]).view("<u8").T
    hashes = _stripes(words[:stripes]) if stripes else np.full(count, _P5, np.uint64)
    hashes = hashes + np.uint64(width)
    for word in words[stripes:]:
        hashes = _rotate(hashes ^ _mixed(word), 27) * _P1 + _P4
    done = whole * 8
    if width - done >= 4:
        half = np.ascontiguousarray(rows[:, done : done + 4]).view("<u4")[:, 0]
        hashes = _rotate(hashes ^ (half * _P1), 23) * _P2 + _P3
        done += 4
    for byte in rows[:, done:].T:
        hashes = _rotate(hashes ^ (byte * _P5), 11) * _P1
    hashes = (hashes ^ (hashes >> _SHIFT[33])) * _P2
    hashes = (hashes ^ (hashes >> _SHIFT[29])) * _P3
    return hashes ^ (hashes >> _SHIFT[32])


def _stripes(words: Hashes) -> Hashes:
    lanes: Hashes = np.repeat(_SEEDS[:, None], words.shape[1], axis=1)
    for at in range(0, len(words), 4):
        lanes = _rotate(lanes + words[at : at + 4] * _P2, 31) * _P1
    one, two, three, four = lanes
    hashes = _rotate(one, 1) + _rotate(two, 7) + _rotate(three, 12) + _rotate(four, 18)
    for lane in lanes:
        hashes = (hashes ^ _mixed(lane)) * _P1 + _P4
    return hashes
