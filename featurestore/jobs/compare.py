"""Comparing values bit for bit: -0.0 differs from 0.0, and NaN equals itself."""

from collections.abc import Sequence

import polars as pl

from featurestore.model.schema import Column, dtype_name
from featurestore.storage.rows import RowLayout

DIFFERENCE = pl.Schema(
    {name: pl.String() for name in ("check", "version", "entity", "feature", "expected", "found")}
)
"""A row per value that differs: which check, the version, entity and feature, and both values."""


def same_bits(left: pl.Series, right: pl.Series) -> pl.Series:
    """Say of each row whether two columns of one dtype hold the same bits, or null both."""
    return packed(left) == packed(right)


def packed(column: pl.Series) -> pl.Series:
    """Give each value's bytes as a row stores them; nulls have bytes of their own."""
    named = column.alias("_")
    layout = RowLayout(columns=(Column(name="_", dtype=dtype_name(named.dtype)),))
    never = pl.repeat(0, len(named), dtype=pl.Int64, eager=True)
    return pl.Series(layout.encode(named.to_frame(), never, None, 0), dtype=pl.Binary)


def entities(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Name each row's entity: `tailnum='N14228'`; a view without keys has one, `-`."""
    rows = frame.select(keys).iter_rows(named=True) if keys else ({} for _ in range(frame.height))
    named = [", ".join(f"{k}={v!r}" for k, v in row.items()) or "-" for row in rows]
    return pl.Series("entity", named, dtype=pl.String)


def differences(
    expected: pl.DataFrame,
    found: pl.DataFrame,
    *,
    features: Sequence[str],
    keys: Sequence[str],
    check: str,
    versions: Sequence[str],
) -> pl.DataFrame:
    """Give what differs between two frames of the same rows in the same order.

    `versions` says of each feature, in order, to which version it belongs; `keys` are columns of
    `expected`. Only rows that differ are written out.
    """
    parts = [pl.DataFrame(schema=DIFFERENCE)]
    for name, version in zip(features, versions, strict=True):
        wrong = (~same_bits(expected[name], found[name])).arg_true()
        if wrong.is_empty():
            continue
        parts.append(
            pl.DataFrame(
                {
                    "check": [check] * len(wrong),
                    "version": [version] * len(wrong),
                    "entity": entities(expected[wrong], keys),
                    "feature": [name] * len(wrong),
                    "expected": [repr(value) for value in expected[name].gather(wrong)],
                    "found": [repr(value) for value in found[name].gather(wrong)],
                },
                schema=DIFFERENCE,
            )
        )
    return pl.concat(parts)
