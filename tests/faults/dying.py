"""A job in a process of its own that dies, by SIGKILL, just before its n-th write."""

import os
import signal
from datetime import datetime

from featurestore.jobs.backfill import backfill
from featurestore.jobs.collect import collect
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import micros
from tests.repos import at


def materialize(workspace):
    """Bring the tables to a later moment, and up to date with a source that changed."""
    materialize_incremental(workspace, micros(at(30)))


JOBS = {
    "materialize": materialize,
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
        "put", "repair", "mark", "put_release", "move_alias", "drop_releases",
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


def run(repo, url, now, job, dies_at, done):
    """Run a job that dies before its write number `dies_at`; send how many it made, if it lives."""
    workspace = opened(repo, url, now)
    written = []

    def counted(name):
        written.append(name)
        if len(written) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    online = Doomed(workspace.online(), counted)
    workspace._online = online
    for name in STORES:
        store = getattr(workspace, name)
        workspace.__dict__[name] = Doomed(store, counted)
    JOBS[job](workspace)
    done.send(written)
    workspace.close()
