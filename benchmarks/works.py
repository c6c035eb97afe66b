"""What serving looks up: three kinds of rows, and how many entities of which are asked at once.

Each kind has a source file, a key and a service of its own, all named after it: `single` is one
view of 50 float32, `wide` many views of 10, `mixed` one of five dtypes with every tenth value null.
Imports nothing heavy but Polars: peers' processes import this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from columns import MOMENT, SPAN, START, names

_SEED = 20130601
_NULLS = 0.1
_TEXT = 1 << 40
"""Texts are hexadecimal numbers below this: one to ten letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rows of one source: so many features, spread evenly over so many views."""

    name: str
    features: int
    views: int = 1

    @property
    def key(self) -> str:
        """The name of the key's column."""
        return f"{self.name}_key"

    def by_view(self) -> Mapping[str, list[str]]:
        """Give each view's name with those of its features."""
        each = self.features // self.views
        return {
            self.name if self.views == 1 else f"{self.name}{number:02}": names(each, number * each)
            for number in range(self.views)
        }

    def file(self, folder: Path) -> Path:
        """Say where the source is."""
        return folder / f"{self.name}.parquet"

    def newest(self, folder: Path) -> pl.DataFrame:
        """Give each key's newest values, by key."""
        rows = pl.read_parquet(self.file(folder)).sort(self.key, MOMENT)
        return rows.unique(self.key, keep="last", maintain_order=True).drop(MOMENT)


SINGLE, MIXED = (Kind(name=name, features=50) for name in ("single", "mixed"))


def wide(views: int) -> Kind:
    """Give the kind of so many views."""
    return Kind(name="wide", features=10 * views, views=views)


def kinds(views: int) -> tuple[Kind, ...]:
    """Give every kind, the wide one of so many views."""
    return SINGLE, wide(views), MIXED


WITH = "derived"
"""The service of `single` with an on-demand view beside it, which has this name too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A lookup of the first entities of a kind, through a service: by default the kind's own."""

    kind: Kind
    entities: int
    service: str

    @property
    def label(self) -> str:
        """Name it as tables do."""
        over = f" over {self.kind.views} views" if self.kind.views > 1 else ""
        mixed = " mixed" if self.kind is MIXED else ""
        return f"{self.entities} x {self.kind.features}{over}{mixed}"

    @property
    def file(self) -> str:
        """Name its request's and reply's files."""
        return f"{self.service}-{self.entities}"

    @property
    def values(self) -> int:
        """How many values it asks for."""
        return self.entities * self.kind.features

    @property
    def keys(self) -> int:
        """How many rows it reads of the store."""
        return self.entities * self.kind.views


def work(kind: Kind, entities: int, service: str | None = None) -> Work:
    """Give a lookup through a kind's own service, or through another of the same rows."""
    return Work(kind=kind, entities=entities, service=service or kind.name)


ONE, HUNDRED, MANY = (work(SINGLE, entities) for entities in (1, 100, 500))
TEXTS = work(MIXED, 100)
DERIVED_ONE, DERIVED_HUNDRED = (work(SINGLE, entities, WITH) for entities in (1, 100))


def on_demand() -> Mapping[str, pl.Expr]:
    """Give five expressions of `single`'s first features."""
    one, two, three = (pl.col(name) for name in names(3))
    return {
        "total": one + two + three,
        "ratio": one / (two.abs() + 1.0),
        "larger": one > two,
        "bounded": three.clip(-1.0, 1.0),
        "either": pl.when(one > 0).then(two).otherwise(three),
    }


def write(folder: Path, keys: int, views: int) -> None:
    """Write every kind's source file: two rows of each key, a moment of its own each."""
    for number, kind in enumerate(kinds(views)):
        random = np.random.default_rng(_SEED + number)
        rows = 2 * keys
        moments = pl.Series(np.arange(1, rows + 1)) * (SPAN // (rows + 1))
        made = {
            kind.key: random.permutation(np.arange(rows) % keys),
            MOMENT: (moments + START).dt.cast_time_unit("us"),
        }
        for place, name in enumerate(names(kind.features)):
            made[name] = _mixed(random, rows, place) if kind is MIXED else _floats(random, rows)
        pl.DataFrame(made).write_parquet(kind.file(folder))


def _floats(random: np.random.Generator, rows: int) -> pl.Series:
    return pl.Series(random.standard_normal(rows, dtype=np.float32))


def _mixed(random: np.random.Generator, rows: int, place: int) -> pl.Series:
    """Give float32, float64, int64, texts or booleans by the column's place, with nulls."""
    numbers = pl.Series(random.integers(0, _TEXT, rows))
    column = (
        lambda: _floats(random, rows),
        lambda: pl.Series(random.standard_normal(rows)),
        lambda: numbers,
        lambda: pl.Series([f"{number:x}" for number in numbers]),
        lambda: numbers % 2 == 0,
    )[place % 5]()
    return column.set(pl.Series(random.random(rows) < _NULLS), None)
