"""How rows differ, bit by bit: pure, over two frames. -0.0 differs from 0.0, NaN equals itself.

`differences` tells of two versions how each feature moved; `unequal` and `apart` write out, for a
verification, each value and each row that is not what it should be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.model.documents import View
from featurestore.model.schema import NUMBERS, Column, parse_dtype
from featurestore.model.time import CREATED, EVENT, MOMENT, show
from featurestore.model.windows import NUMBER
from featurestore.storage.bits import same_bits

EXAMPLES = 3
_NOW = "__now_"

FAULT = pl.Schema(
    {name: pl.String() for name in ("check", "version", "entity", "feature", "expected", "found")}
)
"""A row per value that differs: which check, the version, entity and feature, and both values."""

_CALLED = {NUMBER: "event number"}

WHOLE_ROW = "(the row)"
"""What stands for the feature where a whole row is missing, or is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What a feature's values are like: the share of nulls, and the range of numbers."""

    nulls: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One entity whose value differs; `event` is UTC microseconds."""

    entity: tuple[object, ...]
    event: int
    before: object
    after: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One feature over the rows that both versions have.

    A new one has no `before`; of that, and of one with another dtype, `changed` is None.
    """

    feature: str
    changed: int | None
    before: Spread | None
    after: Spread
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What two versions' rows have in common, and how each feature moved.

    Rows are the same if key, event time and created time are; `gone` are only in the old version,
    `came` only in the new one.
    """

    rows: int
    gone: int
    came: int
    features: tuple[Difference, ...]

    @property
    def none(self) -> bool:
        """Whether there were rows to compare, and no bit of them differs."""
        moved = any(one.changed for one in self.features)
        return bool(self.rows) and not (self.gone or self.came or moved)


def differences(
    old: View, new: View, before: pl.DataFrame, after: pl.DataFrame, features: Sequence[str]
) -> Differences:
    """Compare named features of the new version with those of the old one, bit by bit.

    The frames hold join keys, times and features, unique in keys and times. NaN equals NaN;
    a feature that the old version lacks or had in another dtype is described only.
    """
    keys = [key.name for key in new.join_keys]
    told = NUMBER in before.columns and NUMBER in after.columns
    identity = [*keys, EVENT, CREATED, *([NUMBER] if told else [])]
    if not told and old.join_keys == new.join_keys:
        before, after = (
            rows.unique(identity, keep="last", maintain_order=True) for rows in (before, after)
        )
    if old.join_keys == new.join_keys:
        renamed = after.select(*identity, *(pl.col(one).alias(_NOW + one) for one in features))
        joined = before.join(
            renamed, on=identity, how="inner", nulls_equal=True, maintain_order="left"
        )
    else:
        joined = after.clear()
    return Differences(
        rows=joined.height,
        gone=before.height - joined.height,
        came=after.height - joined.height,
        features=tuple(_feature(old, new, name, joined, before, after) for name in features),
    )


def unequal(
    expected: pl.DataFrame,
    found: pl.DataFrame,
    *,
    features: Sequence[str],
    keys: Sequence[str],
    check: str,
    versions: Sequence[str],
) -> pl.DataFrame:
    """Write out the values that differ between two frames of the same rows in the same order.

    `versions` says of each feature, in order, to which version it belongs; `keys` are columns of
    `expected`. The columns are those of `FAULT`.
    """
    parts = [pl.DataFrame(schema=FAULT)]
    for name, version in zip(features, versions, strict=True):
        wrong = (~same_bits(expected[name], found[name])).arg_true()
        if wrong.is_empty():
            continue
        values = (written(frame[name].gather(wrong)) for frame in (expected, found))
        parts.append(_faults(check, version, entities(expected[wrong], keys), name, *values))
    return pl.concat(parts)


def apart(
    rows: pl.DataFrame,
    *,
    keys: Sequence[str],
    check: str,
    version: str,
    expected: pl.Expr,
    found: pl.Expr,
) -> pl.DataFrame:
    """Write out whole rows that are missing, or that stand where another or none should.

    `expected` and `found` say in words what there is, as text; the columns are those of `FAULT`.
    """
    told = rows.select(expected.alias("expected"), found.alias("found"))
    named = entities(rows, keys)
    return _faults(check, version, named, WHOLE_ROW, told["expected"], told["found"])


def entities(frame: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Name each row's entity: `tailnum='N14228'`; a view without keys has one, `-`."""
    if not keys:
        return pl.Series("entity", ["-"]).new_from_index(0, frame.height)
    told = pl.DataFrame([written(frame[key]) for key in keys])
    named = [pl.lit(f"{_CALLED.get(key, key)}=") + pl.col(key) for key in keys]
    return told.select(entity=pl.concat_str(named, separator=", ")).to_series()


def _faults(
    check: str,
    version: str,
    named: pl.Series,
    feature: str,
    expected: pl.Series,
    found: pl.Series,
) -> pl.DataFrame:
    frame = pl.DataFrame([named, expected.alias("expected"), found.alias("found")])
    constant = {"check": check, "version": version, "feature": feature}
    told = frame.with_columns(pl.lit(text).alias(name) for name, text in constant.items())
    return told.select(FAULT.names())


def written(values: pl.Series) -> pl.Series:
    """Write each value so that no two differ in a bit and read alike; moments in words, UTC."""
    if values.dtype == MOMENT:
        moments = values.to_physical()
        told = ["null" if one is None else show(one) for one in moments]
    elif values.dtype == pl.Date:
        told = values.cast(pl.String).fill_null("null").to_list()
    else:
        told = ["null" if one is None else repr(one) for one in values.to_list()]
    return pl.Series(values.name, told, dtype=pl.String)


def _feature(
    old: View, new: View, name: str, joined: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame
) -> Difference:
    was, now = old.feature(name), new.feature(name)
    assert now is not None
    if was is not None and was.dtype == now.dtype and old.join_keys == new.join_keys:
        keys = [key.name for key in new.join_keys]
        return _moved(joined, keys, Column(name=name, dtype=now.dtype))
    return Difference(
        feature=name,
        changed=None,
        before=None if was is None else _spread(before[name], was.dtype),
        after=_spread(after[name], now.dtype),
    )


def _moved(joined: pl.DataFrame, keys: Sequence[str], column: Column) -> Difference:
    before, after = joined[column.name], joined[_NOW + column.name].rename(column.name)
    moved = ~same_bits(before, after)
    shown = joined.with_columns(pl.col(EVENT).to_physical()).filter(moved).head(EXAMPLES)
    rows = shown.select(*keys, EVENT, column.name, _NOW + column.name).rows()
    return Difference(
        feature=column.name,
        changed=int(moved.sum()),
        before=_spread(before, column.dtype),
        after=_spread(after, column.dtype),
        examples=tuple(
            Example(entity=tuple(entity), event=event, before=was, after=now)
            for *entity, event, was, now in rows
        ),
    )


def _spread(values: pl.Series, dtype: str) -> Spread:
    nulls = values.null_count() / len(values) if len(values) else 0.0
    if dtype not in NUMBERS:
        return Spread(nulls=nulls)
    known = values.cast(parse_dtype(dtype)).drop_nulls()
    finite = known.drop_nans() if known.dtype.is_float() else known
    low, high = finite.min(), finite.max()
    return Spread(
        nulls=nulls,
        low=low if isinstance(low, int | float) else None,
        high=high if isinstance(high, int | float) else None,
    )
