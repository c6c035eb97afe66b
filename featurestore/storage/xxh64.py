"""The xxHash64 (seed 0) of byte strings: the same on every version and platform.

Strings of one length are the rows of a matrix, and each step of the algorithm runs over all of them
at once; the few of a lookup are hashed in plain integers.
"""

from collections.abc import Sequence
from struct import unpack_from
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
_I1, _I2, _I3, _I4, _I5 = map(int, (_P1, _P2, _P3, _P4, _P5))
_MASK = 2**64 - 1
# A lookup of one entity cannot wait for sixty NumPy calls (55 µs); in plain integers it is 7 µs.
_FEW = 6
_SHIFT = tuple(map(np.uint64, range(64)))

Hashes = NDArray[np.uint64]


def hash64(keys: Sequence[bytes]) -> Hashes:
    """Give the hash of each byte string."""
    if len(keys) <= _FEW:
        return np.array(list(map(_xxh64_of, keys)), np.uint64)
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    flat = np.frombuffer(b"".join(keys), np.uint8)
    starts, hashes = np.cumsum(lengths) - lengths, np.empty(len(keys), np.uint64)
    for rows in alike(lengths):
        hashes[rows] = hash_rows(cells_of(flat, starts[rows], int(lengths[rows[0]])))
    return hashes


def hash_rows(rows: NDArray[np.uint8]) -> Hashes:
    """Give the hash of each row of a matrix."""
    if len(rows) > _FEW:
        return _xxh64(rows)
    return np.array(list(map(_xxh64_of, map(bytes, rows))), np.uint64)


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


def _xxh64(rows: NDArray[np.uint8]) -> Hashes:
    """Hash each row of a matrix of bytes: every step of the algorithm over all rows at once."""
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


def _xxh64_of(key: bytes) -> int:
    """Hash one byte string in plain integers: the same algorithm, for the few keys of a lookup."""
    width, whole = len(key), len(key) // 8 * 8
    words = unpack_from(f"<{whole // 8}Q", key)
    stripes = width // 32 * 4
    found = _stripes_of(words[:stripes]) if stripes else _I5
    found += width
    for word in words[stripes:]:
        found = _turn(found ^ _turn(word * _I2, 31) * _I1 & _MASK, 27) * _I1 + _I4
    if width - whole >= 4:
        half = int.from_bytes(key[whole : whole + 4], "little")
        found = _turn(found & _MASK ^ half * _I1 & _MASK, 23) * _I2 + _I3
        whole += 4
    for byte in key[whole:]:
        found = _turn(found & _MASK ^ byte * _I5 & _MASK, 11) * _I1
    found &= _MASK
    found = (found ^ found >> 33) * _I2 & _MASK
    found = (found ^ found >> 29) * _I3 & _MASK
    return found ^ found >> 32


def _turn(value: int, bits: int) -> int:
    value &= _MASK
    return (value << bits | value >> 64 - bits) & _MASK


def _stripes_of(words: tuple[int, ...]) -> int:
    lanes = _SEEDS.tolist()
    for at, word in enumerate(words):
        lanes[at % 4] = _turn(lanes[at % 4] + word * _I2, 31) * _I1
    found = sum(map(_turn, lanes, (1, 7, 12, 18)))
    for lane in lanes:
        found = (found & _MASK ^ _turn(lane * _I2, 31) * _I1 & _MASK) * _I1 + _I4
    return found
