"""The join over Delta tables, in buckets and periods, written by runs: equal to that of a draft."""

from datetime import timedelta
from itertools import count

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.tables import DraftTables, StoredTables
from featurestore.model.time import EVENT, MOMENT, micros
from featurestore.storage.pushed import Roots
from featurestore.training import training_set
from tests.repos import HOUR, applied, at, history, in_buckets, landings, source, write
from tests.tables import ask

TABLES = count()
RUNS = (10, 25, 40, 80)
PLANES = st.sampled_from(["a", "b", "c", None])
ROWS = st.lists(
    st.tuples(
        PLANES, st.integers(0, 60), st.none() | st.integers(0, 70), st.floats(0, 9), st.just(1)
    ),
    min_size=1,
    max_size=14,
)
SPINES = st.lists(st.tuples(PLANES, st.none() | st.integers(0, 70)), max_size=12)
VIEWS = st.fixed_dictionaries(
    {
        "ttl": st.none() | st.sampled_from([0, 3, 20]).map(lambda hours: hours * HOUR),
        "delay": st.sampled_from([0, 2]).map(lambda hours: hours * HOUR),
        "known_at": st.sampled_from(["created", "event"]),
    }
)
LAYOUTS = st.fixed_dictionaries(
    {"buckets": st.sampled_from([1, 4]), "period": st.none() | st.just(12 * 3_600_000_000)}
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory, valkey):
    """A repo whose view each example replaces by one of another name."""
    first = landings(("a", 0, None, 1.0, 1))
    return write(tmp_path_factory.mktemp("join") / "repo", first, name="join"), valkey.url


@pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")
@settings(max_examples=8, deadline=None)
@given(ROWS, SPINES, VIEWS, LAYOUTS, st.booleans())
def test_files_that_are_pruned_change_nothing(repo, rows, spine, view, layout, as_known):
    """Whatever is read of the table, values and counts are those of the whole source."""
    folder, url = repo
    name = f"history_{next(TABLES)}"
    path = f"data/{name}.parquet"
    landings(*rows).write_parquet(folder / path)
    one = history(name=name, source=source(path=path), settle=timedelta(0), **view)
    workspace = applied(folder, url, one)
    in_buckets(workspace, one, **layout)
    for hour in RUNS:
        materialize_incremental(workspace, micros(at(hour)))
    moments = [None if hour is None else at(hour) for _, hour in spine]
    asked = pl.DataFrame(
        {"plane": [plane for plane, _ in spine], EVENT: moments},
        schema={"plane": pl.String, EVENT: MOMENT},
    )
    query = ask(one)
    found, whole = (
        training_set(asked, query, tables, project="join", as_known=as_known, allow_stale=True)
        for tables in (StoredTables(workspace, query=query), DraftTables(Roots(repo=folder)))
    )
    assert found.to_polars().equals(whole.to_polars())
    assert found.withheld == whole.withheld
    workspace.close()
