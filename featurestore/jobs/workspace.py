"""A project's stores, opened once and passed to every job."""

import getpass
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from featurestore.errors import NotFound
from featurestore.jobs.commit import head_commit
from featurestore.jobs.config import Config, read_config
from featurestore.model.documents import Project, Table, View
from featurestore.model.names import suggest
from featurestore.storage.launcher import EmbeddedServer
from featurestore.storage.ledger import Ledger
from featurestore.storage.offline import OfflineStore
from featurestore.storage.redis import OnlineStore
from featurestore.storage.registry import Registry
from featurestore.storage.releases import Releases
from featurestore.storage.sql import Engine, open_engine

Clock = Callable[[], int]

_PATIENCE = 30.0
"""Seconds a job waits for Redis; only lookups are in a hurry."""


def system_clock() -> int:
    """Give the moment by this machine's clock, UTC microseconds."""
    return time.time_ns() // 1000


def _user() -> str:
    """Give who works here; a container's user may have a number and no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


class Workspace:
    """The stores of a repo; registry and online store are opened when they are first asked for."""

    def __init__(
        self, config: Config, *, clock: Clock = system_clock, who: str | None = None
    ) -> None:
        self.config = config
        self.clock = clock
        self.who = who or _user()
        self.offline = OfflineStore(config.offline, config.project)
        self._engine: Engine | None = None
        self._online: OnlineStore | None = None

    @classmethod
    def open(
        cls,
        repo: str | Path,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = system_clock,
    ) -> "Workspace":
        """Open the workspace of a feature repo."""
        return cls(read_config(Path(repo), os.environ if environ is None else environ), clock=clock)

    @cached_property
    def commit(self) -> str | None:
        """The git commit of the repo's definitions, for the audit; None where there is none."""
        return head_commit(self.config.root)

    @cached_property
    def registry(self) -> Registry:
        """The registry, opened when first asked for."""
        return Registry(self._database(), self.config.project)

    @cached_property
    def releases(self) -> Releases:
        """The releases, aliases and locks, opened when first asked for."""
        return Releases(self._database(), self.config.project)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, opened when first asked for."""
        return Ledger(self._database(), self.config.project)

    def _database(self) -> Engine:
        if self._engine is None:
            self._engine = open_engine(self.config.registry, root=self.config.root)
        return self._engine

    def redis_url(self) -> str:
        """Give the online store's URL; starts the embedded server when none is configured."""
        return self.config.redis_url or EmbeddedServer(self.config.embedded).ensure()

    def stream_url(self) -> str:
        """Give the URL of the Redis with the streams to ingest: the online store's unless said."""
        return self.config.stream_url or self.redis_url()

    def online(self) -> OnlineStore:
        """Give the online store, connected.

        Raises:
            Unavailable: it cannot be reached.
        """
        if self._online is None:
            self._online = OnlineStore.connect(
                self.redis_url(), project=self.config.project, timeout=_PATIENCE
            )
        return self._online

    def project(self) -> Project:
        """Give what is applied.

        Raises:
            NotFound: nothing was ever applied.
        """
        head = self.registry.head()
        if head is None:
            raise NotFound(
                f"{self.config.project}: nothing is applied yet; run `featurestore apply`"
            )
        return head.project

    def view(self, name: str) -> View:
        """Give an applied view by name.

        Raises:
            NotFound: no applied view has this name.
        """
        views = {v.name: v for v in self.project().views}
        if name not in views:
            raise NotFound(f"{name}: no applied view has this name{suggest(name, views)}")
        return views[name]

    def table(self, view: View) -> Table | None:
        """Give the newest table of a view's data, or None when it was never materialized."""
        return self.ledger.table(view.data_id)

    def close(self) -> None:
        """Give connections back; the embedded server keeps running."""
        if self._engine is not None:
            self._engine.dispose()
        if self._online is not None:
            self._online.close()
