"""Two writers at once, one stopped past its lease: the other completes, the first is refused."""

import os
import signal
from pathlib import Path

import pytest

from featurestore.errors import Conflict
from tests.faults.states import (
    CHANGED,
    again,
    answers,
    bring_back,
    corrected,
    ended,
    start,
)
from tests.repos import HOUR, NOW, landings, write
from tests.servers import wait_until

AFTER = NOW + HOUR
"""A moment at which a lease of `NOW` is over."""
LATEST = landings(
    ("a", 1, None, 11.0, 3),
    ("b", 2, 9, 30.0, None),
    ("b", 3, None, 5.0, 6),
)
"""The source after it was corrected again: what the first writer read is gone."""
ANSWER = ([11.0, 5.0], [False, False])


@pytest.fixture(scope="module")
def saved(server, client, tmp_path_factory):
    """A live table in four buckets, of several files each; its source was corrected since."""
    root = tmp_path_factory.mktemp("states")
    return corrected(server, client, root, until=2, source=CHANGED)


@pytest.fixture
def repo(saved, client, tmp_path):
    """The repo as it was before the jobs."""
    return bring_back(saved, client, tmp_path / "repo")


def is_stopped(process):
    """Say whether a process was stopped by a signal."""
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def stopped(repo, url, job, before, now=NOW):
    """Start a job that stops before a write."""
    process, receive = start(repo, url, now, job, before, stops=True)
    wait_until(lambda: is_stopped(process), seconds=60)
    return process, receive


def goes_on(process, receive):
    """Let a stopped job go on to its end; gives the error of the store that it failed with."""
    os.kill(process.pid, signal.SIGCONT)
    failed = receive.recv()
    process.join()
    assert process.exitcode == 0
    return failed


@pytest.mark.parametrize("before", ["start_run", "replace", "commit_run", "put_all"])
def test_a_materializer_stopped_past_its_lease_shows_nothing(server, client, repo, before):
    """While its lease holds another is refused; after it, the other's rows and Redis stay."""
    first = stopped(repo, server.url, "rewrite", (before, 0))
    with pytest.raises(Conflict, match="held by"):
        again(repo, server.url, NOW, "rewrite")
    write(repo, LATEST)
    again(repo, server.url, AFTER, "rewrite")
    left = ended(repo, client)
    assert answers(repo, server.url, AFTER) == ANSWER
    assert isinstance(goes_on(*first), Conflict)
    assert ended(repo, client) == left
    assert answers(repo, server.url, AFTER) == ANSWER
    again(repo, server.url, AFTER, "rewrite")
    assert ended(repo, client) == left


def test_a_materializer_that_had_done_all_stands_under_what_came_after(server, client, repo):
    """Stopped before it notes that it is done, it has nothing to take back."""
    first = stopped(repo, server.url, "rewrite", ("end_run", 0))
    write(repo, LATEST)
    again(repo, server.url, AFTER, "rewrite")
    left = ended(repo, client)
    assert goes_on(*first) is None
    assert ended(repo, client) == left


@pytest.mark.parametrize("before", [("start_run", 0), ("lease", 2), ("commit_run", 0)], ids=str)
def test_a_compaction_stopped_past_its_lease_shows_nothing(server, client, repo, before):
    """Before, between and after the files it makes: what another materializes meanwhile stands."""
    first = stopped(repo, server.url, "shrink", before)
    with pytest.raises(Conflict, match="held by"):
        again(repo, server.url, NOW, "rewrite")
    again(repo, server.url, AFTER, "rewrite")
    left = ended(repo, client)
    assert isinstance(goes_on(*first), Conflict)
    assert ended(repo, client) == left
    again(repo, server.url, AFTER, "shrink")
    assert ended(repo, client) == left


def test_a_compaction_whose_lease_another_holds_says_so(server, client, repo):
    """Not only once the other is done: it stops between two files, as a conflict."""
    first = stopped(repo, server.url, "shrink", ("lease", 2))
    other = stopped(repo, server.url, "rewrite", ("replace", 0), AFTER)
    assert isinstance(goes_on(*first), Conflict)
    assert goes_on(*other) is None
    assert answers(repo, server.url, AFTER) == ([2.0, 4.0], [False, False])


@pytest.mark.parametrize("before", ["start_run", "replace", "commit_run"])
def test_a_materializer_stopped_past_its_lease_does_not_undo_a_compaction(
    server, client, repo, before
):
    """A compaction meanwhile finishes what was committed, and sees to it that the rest is not."""
    first = stopped(repo, server.url, "rewrite", (before, 0))
    again(repo, server.url, AFTER, "shrink")
    left = ended(repo, client)
    assert isinstance(goes_on(*first), Conflict)
    assert ended(repo, client) == left
    again(repo, server.url, AFTER, "rewrite")
    assert answers(repo, server.url, AFTER) == ([2.0, 4.0], [False, False])
