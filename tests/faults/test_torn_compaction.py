"""Sudden death at the system calls of compaction and vacuum: no row, no locked version is lost."""

import signal
from datetime import timedelta

import polars as pl
import pytest

from featurestore.jobs.locks import register
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.model.time import EVENT, micros
from tests.faults.dying import opened
from tests.faults.states import again, bring_back, dump, save, tables
from tests.faults.tracing import (
    Fault,
    log_files,
    registry_files,
    strikes,
    struck,
    table_of,
    why_not,
)
from tests.repos import (
    NOW,
    applied,
    at,
    history,
    in_buckets,
    landings,
    notebook,
    offline_rows,
    released,
    write,
)

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
JOB = "shrink"
VIEW = history(settle=timedelta(0))
PLANES = "abcdefgh"
ROWS = landings(
    *(
        (plane, hour, None, float(hour + n), hour)
        for n, plane in enumerate(PLANES)
        for hour in range(30)
    )
)
SPINE = pl.DataFrame(
    {"plane": [*PLANES, "z"] * 2, EVENT: [at(hour) for hour in (3.5, 24) for _ in range(9)]}
)
KEEP_NOTHING = "online_store:\n  type: featurestore.online\n  retention_days: 0\n"
DEATHS = {
    "registry-pwrite64": 4,
    "registry-fdatasync": 3,
    "registry-unlink": 4,
    "data-rename": 1,
    "log-write": 3,
    "log-linkat": 3,
    "log-unlink": 3,
    "old-unlink": 3,
}
"""A place, a call that writes there, and how many of its occurrences the job dies at."""


def train(repo, url, lock=None):
    """Give a training set of the table as it is now, or as a lock says, and its lock."""
    workspace = opened(repo, url, NOW)
    with notebook(workspace) as store:
        asked = None if lock else ["history:last_delay"]
        made = store.get_historical_features(SPINE, asked, lock=lock)
        rows, lock = made.to_polars(), made.lock
    workspace.close()
    return rows, lock


@pytest.fixture(scope="module")
def grown(server, client, tmp_path_factory):
    """A live table in four buckets, of many files; a lock names a version that was replaced."""
    root = tmp_path_factory.mktemp("states")
    repo = write(root / "repo", ROWS)
    settings = repo / "feature_store.yaml"
    settings.write_text(settings.read_text() + KEEP_NOTHING)
    workspace = applied(repo, server.url, VIEW)
    in_buckets(workspace, VIEW, 4)
    for hour in (8, 16, 24):
        materialize_incremental(workspace, micros(at(hour)))
    released(workspace)
    locked = train(repo, server.url)
    register(workspace, locked[1], owner="ann")
    for more in (100, 200):
        write(repo, ROWS.with_columns(pl.col("delay") + more))
        settings.write_text(settings.read_text() + KEEP_NOTHING)
        for start, end in ((0, 10), (10, 24)):
            materialize(workspace, micros(at(start)), micros(at(end)))
    materialize_incremental(workspace, micros(at(30)))
    return save(workspace, client, root / "saved"), locked


@pytest.fixture
def repo(grown, client, tmp_path):
    """The repo as it was before the job."""
    return bring_back(grown[0], client, tmp_path / "repo")


def files(repo):
    """Give the data files in the table's folder."""
    return set(table_of(repo).rglob("part-*.parquet"))


def seen(repo, url, client, lock):
    """Give all that a compaction must not change."""
    workspace = opened(repo, url, NOW)
    rows = offline_rows(workspace, VIEW)
    workspace.close()
    now, then = train(repo, url)[0], train(repo, url, lock=lock)[0]
    return tables(repo), rows.sort(rows.columns).to_dicts(), now.rows(), then.rows(), dump(client)


@pytest.fixture
def clean(grown, repo, server, client):
    """What an undisturbed compaction leaves and removes; the repo is as it was, again."""
    was = files(repo)
    again(repo, server.url, NOW, JOB)
    left = files(repo)
    bring_back(grown[0], client, repo)
    assert was - left
    assert left - was
    return len(left), was - left


def faults(repo, url, old, place, call, most, log):
    """Give the faults: what threads do to a file each is told apart by the file."""
    several = {"log": log_files(repo, 3), "old": sorted(old)[:: max(1, len(old) // most)]}
    if place in several:
        return [Fault(call=call, paths=(path,)) for path in several[place][:most]]
    fault = Fault(call=call, paths=registry_files(repo) if place == "registry" else ())
    return strikes(repo, url, NOW, JOB, fault, most, log)


@pytest.mark.parametrize("death", DEATHS)
def test_death_at_a_system_call_of_a_compaction_changes_no_answer(
    grown, server, client, repo, clean, tmp_path, death
):
    """Rows, training sets, a locked one and Redis stay as they were; a rerun does what is left."""
    (saved, (locked, lock)), (left, old) = grown, clean
    before = seen(repo, server.url, client, lock)
    assert before[3] == locked.rows()
    for one in faults(repo, server.url, old, *death.split("-"), DEATHS[death], tmp_path / "log"):
        bring_back(saved, client, repo)
        code, _ = struck(repo, server.url, NOW, JOB, one)
        assert code == -signal.SIGKILL, one
        assert seen(repo, server.url, client, lock) == before, one
        again(repo, server.url, NOW, JOB)
        assert seen(repo, server.url, client, lock) == before, one
        assert len(files(repo)) == left, one
