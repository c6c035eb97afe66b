"""Sudden death and failing disks at the system calls of a run: the table is at a whole version.

strace kills the job before a call that writes below the repo, or makes the call fail. Whatever was
committed stays, nothing half of it is seen, and a rerun ends where an undisturbed run does.
"""

import signal

import polars as pl
import pytest

from featurestore.errors import Unavailable
from tests.faults.dying import opened
from tests.faults.states import (
    ANSWERS,
    CHANGED,
    ONE,
    again,
    answers,
    bring_back,
    corrected,
    ended,
    tables,
)
from tests.faults.tracing import (
    Fault,
    log_files,
    registry_files,
    strikes,
    struck,
    table_of,
    why_not,
)
from tests.repos import NOW, landings, offline_rows

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
JOB = "rewrite"
NEWER = pl.concat([CHANGED, landings(("d", 28, None, 1.0, 2))])
"""With a row in a bucket that had none."""
EVERY = 100
# A place, a call that writes there, and how many of its occurrences are struck.
DEATHS = {
    "registry-openat": 3,
    "registry-pwrite64": 10,
    "registry-fdatasync": 8,
    "registry-unlink": EVERY,
    "bucket-mkdir": EVERY,
    "data-rename": 1,
    "log-openat": EVERY,
    "log-write": EVERY,
    "log-linkat": EVERY,
    "log-unlink": EVERY,
}
FAILURES = {
    "registry-openat-ENOSPC": 3,
    "registry-pwrite64-ENOSPC": 5,
    "registry-pwrite64-EIO": 3,
    "registry-fdatasync-EIO": 4,
    "registry-unlink-EIO": EVERY,
    "bucket-mkdir-ENOSPC": EVERY,
    "data-rename-EIO": 1,
    "log-openat-ENOSPC": EVERY,
    "log-write-ENOSPC": EVERY,
    "log-write-EIO": EVERY,
    "log-linkat-EIO": EVERY,
    "log-unlink-EIO": EVERY,
}
HARMLESS = {"log-unlink-EIO"}
"""After the commit, a second name of the log may stay; it is none that anything is read by."""


@pytest.fixture(scope="module")
def saved(server, client, tmp_path_factory):
    """A live table in four buckets, written by two runs; its source was corrected since."""
    root = tmp_path_factory.mktemp("states")
    return corrected(server, client, root, until=3, source=NEWER)


@pytest.fixture
def repo(saved, client, tmp_path):
    """The repo as it was before the job."""
    return bring_back(saved, client, tmp_path / "repo")


@pytest.fixture
def clean(saved, repo, server, client):
    """What an undisturbed run leaves; the repo is as it was before, again."""
    again(repo, server.url, NOW, JOB)
    left = ended(repo, client)
    bring_back(saved, client, repo)
    return left


def places(repo):
    """Give what a run writes to, by name."""
    return {
        "registry": registry_files(repo),
        "log": log_files(repo),
        "bucket": tuple(table_of(repo) / f"bucket={number}" for number in range(4)),
        "data": (),
    }


def trained(repo, url):
    """Give the rows that training reads, their files checked against the ledger."""
    workspace = opened(repo, url, NOW)
    rows = offline_rows(workspace, ONE)
    workspace.close()
    return rows.sort(rows.columns).to_dicts()


def is_whole(repo, url, before, after):
    """Check that table, training and a lookup are as before the run, or as after it."""
    assert tables(repo) in (before, after)
    assert trained(repo, url) in [*before.values(), *after.values()]
    assert answers(repo, url, NOW) in (ANSWERS[1], ANSWERS[3])


def fault_of(repo, place, call, **becomes):
    """Give a fault of a call in a place."""
    return Fault(call=call, paths=places(repo)[place], **becomes)


@pytest.mark.parametrize("death", DEATHS)
def test_death_at_a_system_call_leaves_a_whole_version_and_a_rerun_completes(
    saved, server, client, repo, clean, tmp_path, death
):
    """Killed before it writes to registry, log or data: rows, lookups and Redis are never mixed."""
    before, fault = tables(repo), fault_of(repo, *death.split("-"))
    for one in strikes(repo, server.url, NOW, JOB, fault, DEATHS[death], tmp_path / "log"):
        bring_back(saved, client, repo)
        assert struck(repo, server.url, NOW, JOB, one) == (-signal.SIGKILL, None), one
        is_whole(repo, server.url, before, clean[1])
        again(repo, server.url, NOW, JOB)
        assert ended(repo, client) == clean, one
        assert answers(repo, server.url, NOW) == ANSWERS[3]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_disk_is_told_as_such_and_a_rerun_completes(
    saved, server, client, repo, clean, tmp_path, failure
):
    """Where a call says that the disk is full or broken, the run says Unavailable, and no more."""
    place, call, error = failure.split("-")
    before, fault = tables(repo), fault_of(repo, place, call, becomes=f"error={error}")
    told = 0
    for one in strikes(repo, server.url, NOW, JOB, fault, FAILURES[failure], tmp_path / "log"):
        bring_back(saved, client, repo)
        code, failed = struck(repo, server.url, NOW, JOB, one)
        assert code == 0, one
        if failed is None:
            # SQLite goes on where its folder cannot be synced.
            assert ended(repo, client) == clean, one
        else:
            assert isinstance(failed, Unavailable), one
            told += 1
        is_whole(repo, server.url, before, clean[1])
        again(repo, server.url, NOW, JOB)
        assert ended(repo, client) == clean, one
        assert answers(repo, server.url, NOW) == ANSWERS[3]
    assert bool(told) == (failure not in HARMLESS)
