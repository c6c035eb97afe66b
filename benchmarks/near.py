"""Answers of windows compared: sums of floats within what their order may change, all else exact.

Sums differ by at most 1e-9 of the sum of absolute values in the window, means by that over the
count, variances by that of the squares. The inputs are not negative: a sum of absolute values is
the sum, and the sum of squares over n - 1 is at least the variance and the squared mean.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from asked import Asked
from columns import ROW
from report import Unequal

TOLERANCE = 1e-9


def near(
    answers: Mapping[str, Path], reference: str, rows: pl.Series, asked: Sequence[Asked]
) -> list[str]:
    """Compare every answer with the reference's, or with the first one's if that has none.

    `rows` are the numbers of all entity rows.

    Raises:
        Unequal: an answer lacks a row or has one twice, or a value differs by more than it may.
    """
    if not answers:
        return []
    against = reference if reference in answers else next(iter(answers))
    wanted = _whole(pl.read_parquet(answers[against]), rows, asked, against)
    lines = []
    for name, file in answers.items():
        if name == against:
            continue
        found = _whole(pl.read_parquet(file), rows, asked, name)
        exact = check(found, wanted, asked, name)
        lines.append(
            f"{name} = {against}: {found.height:,} rows x {len(asked)} features, {exact} of them "
            f"value for value, sums of floats within {TOLERANCE:g}"
        )
    return lines


def check(found: pl.DataFrame, wanted: pl.DataFrame, asked: Sequence[Asked], name: str) -> int:
    """Compare two frames of the same rows; give how many features had to be equal.

    Raises:
        Unequal: a value differs by more than it may; the feature and how many rows are named.
    """
    exact = 0
    for one in asked:
        ours, theirs = found[one.name], wanted[one.name]
        if _summed(one):
            bound = TOLERANCE * (theirs if one.function != "std" else _squares(wanted, one))
            if one.function == "std":
                ours, theirs = ours**2, theirs**2
            apart = ((ours - theirs).abs() > bound) | (ours.is_null() != theirs.is_null())
        else:
            exact += 1
            apart = ours.ne_missing(theirs)
        if apart.sum():
            raise Unequal(f"{name}: {one.name} differs in {apart.sum():,} of {found.height:,} rows")
    return exact


def _summed(one: Asked) -> bool:
    """Say whether a feature is made of a sum of floats, or of a sum that is divided."""
    return one.function in ("mean", "std") or (
        one.function == "sum" and one.column in ("amount", "duration", "size")
    )


def _squares(wanted: pl.DataFrame, one: Asked) -> pl.Series:
    mean = Asked("mean", one.column, one.days).name
    return wanted[one.name] ** 2 + wanted[mean] ** 2


def _whole(
    answer: pl.DataFrame, rows: pl.Series, asked: Sequence[Asked], name: str
) -> pl.DataFrame:
    """Give an answer by entity row, once it has each of them once."""
    answer = answer.sort(ROW)
    if not answer[ROW].equals(rows.sort()):
        raise Unequal(f"{name}: {answer.height:,} rows, not each of {len(rows):,} once")
    return answer.select(ROW, *(one.name for one in asked))
