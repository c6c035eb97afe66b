"""Plug-ins that make a feature store's `feature_store.yaml` a valid Feast configuration.

With them `feast apply` and Feast's listings work on a repo as they do on any other. Data is read
and written by this store only: a call of Feast's that would move data says which call to make here.
"""

from typing import Any, Literal, NoReturn

from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import FeastConfigBaseModel
from pydantic import Field

from featurestore.errors import Unsupported


class DeltaOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Where the offline tables lie: a folder, relative to the repo, or a URL."""

    type: Literal["featurestore.integrations.feast.DeltaOfflineStore"] = (
        "featurestore.integrations.feast.DeltaOfflineStore"
    )
    path: str = ".featurestore/offline"


class DeltaOfflineStore(OfflineStore):  # type: ignore[misc]
    """Delta tables kept by this store; Feast reads the schemas of sources through it, no rows."""

    @staticmethod
    def get_historical_features(*_: Any, **__: Any) -> RetrievalJob:
        """Refuse: Feast's join would answer otherwise than serving does.

        Raises:
            Unsupported: always, with the call to make.
        """
        _refuse("get_historical_features", "featurestore.FeatureStore(…).get_historical_features")

    @staticmethod
    def pull_latest_from_table_or_query(*_: Any, **__: Any) -> RetrievalJob:
        """Refuse: materialization is this store's.

        Raises:
            Unsupported: always, with the command to run.
        """
        _refuse("materialize", "the command `featurestore materialize`")

    @staticmethod
    def pull_all_from_table_or_query(*_: Any, **__: Any) -> RetrievalJob:
        """Refuse: materialization is this store's.

        Raises:
            Unsupported: always, with the command to run.
        """
        _refuse("materialize", "the command `featurestore materialize`")

    @staticmethod
    def offline_write_batch(*_: Any, **__: Any) -> None:
        """Refuse: offline tables are written by materialization only.

        Raises:
            Unsupported: always, with the command to run.
        """
        _refuse("write_to_offline_store", "the command `featurestore materialize`")

    @staticmethod
    def write_logged_features(*_: Any, **__: Any) -> None:
        """Refuse: served vectors are not logged through Feast.

        Raises:
            Unsupported: always.
        """
        _refuse("write_logged_features", "a client of the gRPC service that logs its answers")


class PackedRedisOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """Where the online rows lie: a Redis URL; none means the server that this store starts.

    The URL may be of one server, of sentinels (`redis+sentinel://`) or of a cluster
    (`redis+cluster://`); what else there is to say of it may stand beside it. Files are PEM, and
    relative to the repo. What an alias was moved away from stays warm for `retention_days`.
    """

    type: Literal["featurestore.integrations.feast.PackedRedisOnlineStore"] = (
        "featurestore.integrations.feast.PackedRedisOnlineStore"
    )
    connection_string: str | None = Field(default=None, repr=False)
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = Field(default=None, repr=False)
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool = True
    retention_days: float = 7


class PackedRedisOnlineStore(OnlineStore):  # type: ignore[misc]
    """Packed rows in Redis kept by this store; for Feast there is nothing to set up."""

    def update(self, *_: Any, **__: Any) -> None:
        """Do nothing: tables are made when they are materialized, and none is made per view."""

    def teardown(self, *_: Any, **__: Any) -> None:
        """Refuse: what to remove depends on releases and locks, which Feast does not know.

        Raises:
            Unsupported: always.
        """
        _refuse("teardown", "the deletion of the Redis and offline stores themselves")

    def online_write_batch(self, *_: Any, **__: Any) -> None:
        """Refuse: rows are written with their known-at and revision, which Feast does not pass.

        Raises:
            Unsupported: always, with the command to run.
        """
        _refuse("materialize", "the command `featurestore materialize`")

    def online_read(self, *_: Any, **__: Any) -> list[Any]:
        """Refuse: an answer must come from one release, which Feast's registry does not name.

        Raises:
            Unsupported: always, with the call to make.
        """
        _refuse("get_online_features", "featurestore.FeatureClient(…).get_online_features")


def _refuse(call: str, instead: str) -> NoReturn:
    raise Unsupported(f"feast.{call}: Feast does not move this store's data; use {instead}")
