"""Sudden death at every step of changing what is live, or its data: a rerun completes.

A job runs in a process of its own, which is killed before each of its writes in turn, and at random
moments. Whatever was live stays live, whole; run again, the job ends where an undisturbed one does.
"""

import random
import signal
import time

import pytest

from featurestore.jobs.backfill import backfill
from featurestore.jobs.materialize import materialize
from featurestore.jobs.verify import verify
from featurestore.model.time import micros
from tests.faults.dying import opened
from tests.faults.states import (
    ANSWERS,
    CHANGED,
    ONE,
    ROWS,
    TWO,
    again,
    answers,
    bring_back,
    dump,
    ended,
    save,
    start,
)
from tests.repos import DAY, NOW, applied, at, pace, released, write

LATER = NOW + 8 * DAY


@pytest.fixture(scope="module")
def states(server, client, tmp_path_factory):
    """The states before each job: a changed source, applied, verified beside what is live, live."""
    root = tmp_path_factory.mktemp("states")
    repo = write(root / "repo", ROWS)
    workspace = applied(repo, server.url, ONE, pace(ONE))
    for first, last in ((0, 3), (3, 24)):
        materialize(workspace, micros(at(first)), micros(at(last)))
    released(workspace)
    write(repo, CHANGED)
    found = {"materialize": save(workspace, client, root / "changed")}
    write(repo, ROWS)
    workspace = applied(repo, server.url, TWO, pace(TWO))
    found["backfill"] = save(workspace, client, root / "applied")
    workspace = opened(repo, server.url, NOW)
    backfill(workspace)
    released(workspace, "staging")
    assert verify(workspace).differences.is_empty()
    found["promote"] = save(workspace, client, root / "verified")
    workspace = opened(repo, server.url, NOW)
    released(workspace)
    found["rollback"] = found["collect"] = save(workspace, client, root / "promoted")
    return found


LIVE = {
    "materialize": (NOW, {1, 3}, 3),
    "backfill": (NOW, {1}, 1),
    "promote": (NOW, {1, 2}, 2),
    "rollback": (NOW, {1, 2}, 1),
    "collect": (LATER, {2}, 2),
}


@pytest.mark.parametrize("job", LIVE)
def test_death_before_any_write_is_not_seen_and_a_rerun_completes(
    states, server, client, tmp_path, job
):
    """Killed before each of its writes: live answers stay whole, and a rerun ends as if nothing."""
    now, may_answer, last = LIVE[job]
    repo = bring_back(states[job], client, tmp_path / "repo")
    process, receive = start(repo, server.url, now, job, 0)
    writes = receive.recv()
    process.join()
    clean = ended(repo, client)
    assert answers(repo, server.url, now) == ANSWERS[last]
    assert len(writes) >= 5
    for number in range(1, len(writes) + 1):
        bring_back(states[job], client, repo)
        process, _ = start(repo, server.url, now, job, number)
        process.join()
        assert process.exitcode == -signal.SIGKILL, (number, writes[number - 1])
        assert answers(repo, server.url, now) in [ANSWERS[one] for one in may_answer], number
        # A rollback that was done to the end is not done again: that would be a second one.
        if job != "rollback" or dump(client) != clean[0]:
            again(repo, server.url, now, job)
        assert ended(repo, client) == clean, (number, writes[number - 1])
        assert answers(repo, server.url, now) == ANSWERS[last]


@pytest.mark.parametrize("job", LIVE)
def test_death_at_any_moment_is_not_seen_and_a_rerun_completes(
    states, server, client, tmp_path, job
):
    """Not only between writes: what is killed inside one is finished or done again."""
    now, may_answer, last = LIVE[job]
    repo = bring_back(states[job], client, tmp_path / "repo")
    began = time.monotonic()
    process, receive = start(repo, server.url, now, job, 0)
    receive.recv()
    lasts = time.monotonic() - began
    process.join()
    clean = ended(repo, client)
    dice = random.Random(7)
    for _ in range(8 if job == "backfill" else 6):
        bring_back(states[job], client, repo)
        process, receive = start(repo, server.url, now, job, 0)
        receive.poll(dice.uniform(0.1, 1) * lasts)
        process.kill()
        process.join()
        assert answers(repo, server.url, now) in [ANSWERS[one] for one in may_answer]
        if job != "rollback" or dump(client) != clean[0]:
            again(repo, server.url, now, job)
        assert ended(repo, client) == clean
        assert answers(repo, server.url, now) == ANSWERS[last]
