"""A job in a process of its own: killed or stopped before a write, or traced."""

import signal
from datetime import datetime

from featurestore.errors import FeatureStoreError
from featurestore.jobs.backfill import backfill
from featurestore.jobs.collect import collect
from featurestore.jobs.compact import compact
from featurestore.jobs.materialize import materialize as materialize_interval
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import micros
from tests.repos import at


def materialize(workspace):
    """Bring the tables to a later moment, and up to date with a source that changed."""
    materialize_incremental(workspace, micros(at(30)))


def rewrite(workspace):
    """Make one run over all that the table holds, and what is new."""
    materialize_interval(workspace, micros(at(0)), micros(at(30)))


def shrink(workspace):
    """Rewrite the table's files, and remove the old ones that no lock names."""
    compact(workspace, vacuumed=True)


JOBS = {
    "materialize": materialize,
    "rewrite": rewrite,
    "shrink": shrink,
    "backfill": backfill,
    "promote": promote,
    "rollback": rollback,
    "collect": collect,
}
WRITES = frozenset(
    {
        "add_table", "collect_table", "drop_table", "lease", "release_lease", "start_run",
        "commit_run", "end_run", "check", "add_verification", "publish", "collect_releases", "note",
        "create", "replace", "fence", "drop",
        "put", "put_all", "repair", "mark", "put_release", "move_alias", "drop_releases",
    }
)  # fmt: skip
STORES = ("ledger", "releases", "registry", "offline")


class Doomed:
    """A store whose writes are counted together with those of the other stores."""

    def __init__(self, store, counted):
        self._store = store
        self._counted = counted

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in WRITES:
            return found

        def write(*arguments, **options):
            self._counted(name)
            return found(*arguments, **options)

        return write


def opened(repo, url, now: datetime):
    """Open a repo's workspace at a moment."""
    environ = {"FEATURESTORE_REDIS_URL": url}
    return Workspace.open(repo, environ=environ, clock=lambda: micros(now))


def run(repo, url, now, job, dies_at, done, *, stops=False):
    """Run a job that dies before a write, or stops there; send what it wrote, and how it failed.

    The write is given by its number, or by its name and how often that was written before.
    """
    workspace = opened(repo, url, now)
    written = []

    def counted(name):
        written.append(name)
        if dies_at in (len(written), (name, written.count(name) - 1)):
            # To this thread: one sent to the process may let it go on into the write.
            signal.raise_signal(signal.SIGSTOP if stops else signal.SIGKILL)

    online = Doomed(workspace.online(), counted)
    workspace._online = online
    for name in STORES:
        store = getattr(workspace, name)
        workspace.__dict__[name] = Doomed(store, counted)
    failed = _failed(workspace, job)
    done.send(failed if stops else written)
    workspace.close()


def traced(repo, url, now, job, talk):
    """Run a job when told so; send the error of the store that it failed with, or nothing."""
    talk.recv()
    try:
        workspace = opened(repo, url, now)
        failed = _failed(workspace, job)
        workspace.close()
    except FeatureStoreError as error:
        failed = error
    talk.send(failed)


def _failed(workspace, job):
    try:
        JOBS[job](workspace)
    except FeatureStoreError as error:
        return error
    return None
