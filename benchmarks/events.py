"""Synthetic events and the entity rows that ask for windows over them, the same for every side.

An event has an Int64 key and id, a moment (`happened`, UTC microseconds, no two alike) and the
inputs that `asked` describes; the file is in the order of time. Keys have as many events each, at
random. Entity rows' moments lie in the later half, so that the longest window is covered from the
first on.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from asked import DAY, INPUTS, MINUTE
from columns import EVENT, KEY, MOMENT, ROW, SPINE, START, names
from dataset import GROUP_ROWS
from numpy.typing import NDArray

Integers = NDArray[np.int64]
SOURCE, EVENTS, ID = "events", "events.parquet", "id"
DAYS = 180
_SEED = 20131231
_CHUNK = 1 << 20
_PUSHED = 10**12
"""Ids of pushed events begin here."""
_START = int(START.timestamp()) * 1_000_000

SCHEMA = pa.schema(
    [
        (KEY, pa.int64()),
        (ID, pa.int64()),
        (MOMENT, pa.timestamp("us", "UTC")),
        ("amount", pa.float64()),
        ("duration", pa.float64()),
        ("size", pa.float32()),
        ("quantity", pa.int32()),
        ("late", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """How many events of how many keys in so many days, and entity rows."""

    events: int
    keys: int
    spine: int = 0
    days: int = DAYS

    @property
    def end(self) -> datetime:
        """A moment after the last event."""
        return START + timedelta(days=self.days)

    def plain(self) -> dict[str, int]:
        """Give the counts, as a report keeps them."""
        return {"events": self.events, "keys": self.keys, "spine": self.spine, "days": self.days}

    def __str__(self) -> str:
        return f"{self.spine:,} entity rows x {self.events:,} events of {self.keys:,} keys"


def write_events(folder: Path, flow: Flow) -> None:
    """Write the events, a chunk at a time."""
    random = np.random.default_rng(_SEED)
    step = flow.days * DAY // flow.events
    with pq.ParquetWriter(folder / EVENTS, SCHEMA, use_dictionary=False) as file:
        for first in range(0, flow.events, _CHUNK):
            ids = np.arange(first, min(first + _CHUNK, flow.events))
            keys = random.permutation(ids % flow.keys)
            file.write_table(_table(random, keys, ids, _START + ids * step), GROUP_ROWS)


def more_events(keys: int, count: int, turn: int, since: datetime) -> pl.DataFrame:
    """Give events after all others: those of one turn within a minute, before those of the next."""
    random = np.random.default_rng(_SEED + 2 + turn)
    ids = _PUSHED * (turn + 1) + np.arange(count)
    first = int(since.timestamp()) * 1_000_000 + turn * MINUTE
    moments = first + np.arange(count) * MINUTE // count
    made = pl.from_arrow(_table(random, random.integers(0, keys, count), ids, moments))
    assert isinstance(made, pl.DataFrame)
    return made


def _table(
    random: np.random.Generator, keys: Integers, ids: Integers, moments: Integers
) -> pa.Table:
    """Give events of some keys, ids and moments, with inputs at random."""
    size = len(ids)
    columns = [
        keys,
        ids,
        moments,
        random.exponential(20.0, size),
        pa.array(random.exponential(5.0, size), mask=random.random(size) < 1 / 20),
        random.exponential(2.0, size).astype(np.float32),
        random.integers(0, 50, size, np.int32),
        random.random(size) < 1 / 5,
    ]
    return pa.table([pa.array(one) for one in columns], names=SCHEMA.names).cast(SCHEMA)


def write_spine(folder: Path, flow: Flow) -> None:
    """Write the entity rows, in any order of time."""
    random = np.random.default_rng(_SEED + 1)
    moments = _START + random.integers(flow.days // 2 * DAY, flow.days * DAY, flow.spine)
    rows = entity_rows(random.integers(0, flow.keys, flow.spine), moments)
    rows.write_parquet(folder / SPINE, row_group_size=GROUP_ROWS)


def entity_rows(keys: Integers, moments: Integers) -> pl.DataFrame:
    """Give numbered entity rows of keys at moments, UTC microseconds."""
    rows = pl.DataFrame({ROW: np.arange(len(keys)), KEY: keys, EVENT: moments})
    return rows.with_columns(pl.col(EVENT).cast(pl.Datetime("us", "UTC")))


def plain(features: int) -> dict[str, pl.Expr]:
    """Give so many features of an event itself, by name."""
    inputs = [pl.col(INPUTS[at % len(INPUTS)]) for at in range(features)]
    return {
        name: one * (at + 1.0)
        for at, (name, one) in enumerate(zip(names(features), inputs, strict=True))
    }
