"""How the rows of one version differ from another's, feature by feature: pure, over two frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.jobs.compare import same_bits
from featurestore.model.documents import View
from featurestore.model.schema import NUMBERS, Column, parse_dtype
from featurestore.model.time import CREATED, EVENT

EXAMPLES = 3
_NOW = "__now_"


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
    identity = [*keys, EVENT, CREATED]
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
