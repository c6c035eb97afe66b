"""The example's replay pushes what was known at each moment, and nothing else."""

import importlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

REPO = Path(__file__).parents[3] / "feature_repo"
START = datetime(2013, 11, 1, 18, tzinfo=UTC)
END = START + timedelta(hours=6)


def test_every_row_is_pushed_once_and_as_soon_as_it_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch holds what became known after the moment before it, its own moment included."""
    monkeypatch.syspath_prepend(str(REPO))
    replay = importlib.import_module("replay")
    moments = pl.Series([START + timedelta(minutes=m) for m in (1, 30, 31, 240)])
    edges = [START, *moments, END]
    batches = replay.micro_batches(REPO / "data", moments, start=START, end=END)
    for name, source in replay.SOURCES.items():
        known = pl.col(source.event) + source.delay
        rows = pl.read_parquet(REPO / "data" / f"{source.file}.parquet")
        for number, batch in enumerate(edges[1:]):
            due = rows.filter(known > edges[number], known <= batch).sort(source.event)
            pushed = batches.get(number, {}).get(name, rows.clear())
            assert pushed.sort(rows.columns).equals(due.sort(rows.columns))
            assert pushed[source.event].is_sorted()
