"""Sudden death at every step of changing what is live, or its data: a rerun completes.

A job runs in a process of its own, which is killed before each of its writes in turn, and at random
moments. Whatever was live stays live, whole; run again, the job ends where an undisturbed one does.
"""

import multiprocessing
import random
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import redis

from featurestore.jobs.backfill import backfill
from featurestore.jobs.materialize import materialize
from featurestore.jobs.verify import verify
from featurestore.model.time import micros
from tests.faults.dying import JOBS, opened, run
from tests.repos import DAY, NOW, applied, at, history, landings, notebook, pace, released, write
from tests.servers import running

ONE = history(features={"last_delay": pl.col("delay") * 1, "late": pl.col("delay") > 15})
TWO = history(features={"last_delay": pl.col("delay") * 2, "late": pl.col("delay") > 25})
ROWS = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 20.0, 4),
    ("b", 2, 9, 30.0, None),
    ("b", 3, None, 4.0, 6),
)
CHANGED = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 2.0, 4),
    ("b", 2, 9, 30.0, None),
    ("b", 3, None, 4.0, 6),
    ("c", 29, None, 16.0, 6),
)
ANSWERS = {
    1: ([20.0, 4.0], [True, False]),
    2: ([40.0, 8.0], [False, False]),
    3: ([2.0, 4.0], [False, False]),
}
LATER = NOW + 8 * DAY
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.dying"])


@dataclass(frozen=True)
class Saved:
    """A state to start from: the repo's folder and all that is in Redis."""

    folder: Path
    keys: dict


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Valkey of this module's own: its keys are saved and brought back."""
    with running("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    """A plain client of it."""
    with redis.Redis(port=server.port, protocol=2) as client:
        yield client


def dump(client):
    """Give all that is in Redis."""
    return {key: client.get(key) for key in client.scan_iter()}


def save(workspace, client, folder):
    """Save a state."""
    workspace.close()
    shutil.copytree(workspace.config.root, folder)
    return Saved(folder=folder, keys=dump(client))


def bring_back(saved, client, repo):
    """Make repo and Redis as they were saved."""
    shutil.rmtree(repo, ignore_errors=True)
    shutil.copytree(saved.folder, repo)
    client.flushall()
    for key, value in saved.keys.items():
        client.set(key, value)
    return repo


@pytest.fixture(scope="module")
def states(server, client, tmp_path_factory):
    """The states before each job: a changed source, applied, verified beside what is live, live."""
    root = tmp_path_factory.mktemp("states")
    repo = write(root / "repo", ROWS)
    workspace = applied(repo, server.url, ONE, pace(ONE))
    for start, end in ((0, 3), (3, 24)):
        materialize(workspace, micros(at(start)), micros(at(end)))
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


def answers(repo, url, now):
    """Look the live version up."""
    workspace = opened(repo, url, now)
    with notebook(workspace, now=now) as store:
        found = store.get_online_features(
            ["history:last_delay", "history:late"], [{"plane": "a"}, {"plane": "b"}], as_of=at(20)
        ).to_dict()
    workspace.close()
    return found["last_delay"], found["late"]


def ended(repo, client):
    """Give what a job leaves behind: Redis, and every row of every offline table."""
    tables = {}
    for path in sorted((repo / ".featurestore" / "offline" / "shop" / "history").iterdir()):
        rows = pl.read_delta(str(path)).drop("bucket")
        tables[path.name] = rows.sort(rows.columns).to_dicts()
    return dump(client), tables


def start(repo, url, now, job, dies_at):
    """Start a job in a process of its own."""
    receive, send = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=run, args=(repo, url, now, job, dies_at, send))
    process.start()
    send.close()
    return process, receive


def again(repo, url, now, job):
    """Run a job to its end in this process."""
    workspace = opened(repo, url, now)
    JOBS[job](workspace)
    workspace.close()


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
