"""Any edits of a source, found by incremental runs, end in what its last state gives at once."""

from itertools import count

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.jobs.compute import feature_rows
from featurestore.jobs.materialize import due_incremental, materialize_incremental
from featurestore.model.time import BEGINNING, CREATED, EVENT, REVISION, Interval, micros
from featurestore.storage.keys import canonical_keys
from featurestore.storage.packed import latest, pack
from featurestore.storage.pushed import Roots
from featurestore.storage.unique import canonical
from tests.repos import applied, at, history, landings, offline_rows, source, write

HOURS = 24 * 5
KEYS = pl.DataFrame({"plane": ["a", "b"]})
FIRST = ("a", 0, None, 0.5, 1)
"""The oldest row, which stays: what a source knew before its first row it may have let go of."""
TABLES = count()

ROWS = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.integers(1, HOURS),
    st.none() | st.integers(1, HOURS),
    st.sampled_from([0.0, -0.0, 1.0, 20.0, float("nan"), None]),
    st.none() | st.integers(0, 3),
)
EDITS = st.one_of(
    st.tuples(st.just("add"), ROWS),
    st.tuples(st.just("remove"), st.integers(0, 30)),
    st.tuples(st.just("correct"), st.integers(0, 30), ROWS),
)
STEPS = st.lists(st.tuples(st.lists(EDITS, max_size=3), st.integers(0, 40)), min_size=1, max_size=4)


def edited(rows, edits):
    """Give the source's rows after some edits."""
    for kind, *of in edits:
        if kind == "add":
            rows = [*rows, of[0]]
        elif rows:
            place = of[0] % len(rows)
            rows = [*rows[:place], *of[1:], *rows[place + 1 :]]
    return rows


@pytest.fixture(scope="module")
def repo(tmp_path_factory, valkey):
    """A repo whose view each example replaces by one of another name."""
    folder = write(tmp_path_factory.mktemp("edits") / "repo", landings(FIRST), name="edits")
    return folder, valkey.url


@settings(max_examples=12)
@given(start=st.lists(ROWS, max_size=12), steps=STEPS)
def test_incremental_runs_end_where_the_last_source_leads(repo, start, steps):
    """The table is what the source gives at once but for revisions, and Redis has its winners."""
    folder, url = repo
    number = next(TABLES)
    path = f"data/{number}.parquet"
    view = history(name=f"history_{number}", source=source(path=path), ttl=None)
    workspace = applied(folder, url, view)
    rows, end = start, 10
    for edits, more in steps:
        rows, end = edited(rows, edits), end + more
        landings(FIRST, *rows).write_parquet(folder / path)
        told = due_incremental(workspace, micros(at(end)))
        done = materialize_incremental(workspace, micros(at(end)))
        assert [one.interval for one in done] == [one.interval for one in told]
    table = workspace.table(view)
    stored = offline_rows(workspace, view).sort("plane", EVENT, CREATED)
    (covered,) = workspace.ledger.covered(table.id)
    assert covered == Interval(start=BEGINNING, end=micros(at(end)))
    expected = feature_rows(view, Roots(repo=folder), covered).sort("plane", EVENT, CREATED)
    assert stored.drop(REVISION).equals(expected.select(stored.drop(REVISION).columns))
    assert canonical(view, stored).equals(canonical(view, expected))
    winners = latest(view, stored)
    (held,) = workspace.online().read([(table.id, canonical_keys(KEYS, view.join_keys))])
    packed = dict(zip(winners["plane"].to_list(), pack(view, winners), strict=True))
    assert list(held) == [packed.get(plane) for plane in KEYS["plane"]]
    workspace.close()
