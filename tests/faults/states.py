"""States to start a job from, and what it leaves behind: the repo's folder, and all of Redis."""

import multiprocessing
import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from featurestore.jobs.materialize import materialize
from featurestore.model.time import micros
from tests.faults.dying import JOBS, opened, run
from tests.repos import applied, at, history, in_buckets, landings, notebook, pace, released, write

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
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.dying"])


@dataclass(frozen=True)
class Saved:
    """A state to start from: the repo's folder and all that is in Redis."""

    folder: Path
    keys: dict


def dump(client):
    """Give all that is in Redis."""
    return {key: client.get(key) for key in client.scan_iter()}


def save(workspace, client, folder):
    """Save a state."""
    workspace.close()
    shutil.copytree(workspace.config.root, folder)
    return Saved(folder=folder, keys=dump(client))


def corrected(server, client, root, *, until, source):
    """Save a live table in four buckets that two runs wrote, and whose source changed since.

    The first run ends after `until` hours, the second after a day.
    """
    repo = write(root / "repo", ROWS)
    workspace = applied(repo, server.url, ONE, pace(ONE))
    in_buckets(workspace, ONE, 4)
    for start, end in ((0, until), (until, 24)):
        materialize(workspace, micros(at(start)), micros(at(end)))
    released(workspace)
    write(repo, source)
    return save(workspace, client, root / "saved")


def bring_back(saved, client, repo):
    """Make repo and Redis as they were saved."""
    shutil.rmtree(repo, ignore_errors=True)
    shutil.copytree(saved.folder, repo)
    client.flushall()
    for key, value in saved.keys.items():
        client.set(key, value)
    return repo


def answers(repo, url, now):
    """Look the live version up."""
    workspace = opened(repo, url, now)
    with notebook(workspace, now=now) as store:
        found = store.get_online_features(
            ["history:last_delay", "history:late"], [{"plane": "a"}, {"plane": "b"}], as_of=at(20)
        ).to_dict()
    workspace.close()
    return found["last_delay"], found["late"]


def tables(repo):
    """Give every row of the newest version of every offline table, by table."""
    found = {}
    for path in sorted((repo / ".featurestore" / "offline" / "shop" / "history").iterdir()):
        rows = pl.read_delta(str(path)).drop("bucket")
        found[path.name] = rows.sort(rows.columns).to_dicts()
    return found


def ended(repo, client):
    """Give what a job leaves behind: Redis, and every row of every offline table."""
    return dump(client), tables(repo)


def start(repo, url, now, job, dies_at, **how):
    """Start a job in a process of its own."""
    receive, send = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=run, args=(repo, url, now, job, dies_at, send), kwargs=how)
    process.start()
    send.close()
    return process, receive


def again(repo, url, now, job):
    """Run a job to its end in this process."""
    workspace = opened(repo, url, now)
    JOBS[job](workspace)
    workspace.close()
