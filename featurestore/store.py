"""FeatureStore: the facade that notebooks use."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, Self, overload

from featurestore.engine.executor import Executor
from featurestore.errors import InvalidRequest, NotFound, NotMaterialized
from featurestore.jobs import apply as applying
from featurestore.jobs import backfill as backfilling
from featurestore.jobs import locks as locking
from featurestore.jobs import materialize as materializing
from featurestore.jobs import plan as planning
from featurestore.jobs import promote as promoting
from featurestore.jobs import push as pushing
from featurestore.jobs import verify as verifying
from featurestore.jobs.due import Due
from featurestore.jobs.run import Outcome
from featurestore.jobs.tables import DraftTables, StoredTables
from featurestore.jobs.workspace import Clock, Workspace, system_clock
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Projection, Release, Service, View
from featurestore.model.facts import Registered
from featurestore.model.lock import Lock
from featurestore.model.names import suggest
from featurestore.model.pinned import admit, locked
from featurestore.model.plan import Plan
from featurestore.model.pushes import skew_of
from featurestore.model.query import references, resolve
from featurestore.model.time import micros
from featurestore.serving.answer.respond import respond
from featurestore.serving.answer.state import state_of
from featurestore.serving.client.asking import Columns, request_message
from featurestore.serving.client.response import OnlineResponse, read_response
from featurestore.serving.message.limits import Limits
from featurestore.serving.message.locks import LockReference, Locks, read_lock
from featurestore.serving.message.pushed import PushResult, where
from featurestore.training import TrainingSet, observed, training_set

Features = str | Sequence[Any] | Any
"""A service's name, `view:feature` references, or definition objects of Feast and of ours."""


class FeatureStore:
    """A feature repo's store.

    Args:
        repo: the folder with feature_store.yaml.
        environ: environment to read overrides from; the process's own by default.
        clock: the moment now, UTC microseconds; the machine's by default.
    """

    def __init__(
        self,
        repo: str | Path = ".",
        *,
        environ: Mapping[str, str] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._workspace = Workspace.open(repo, environ=environ, clock=clock)
        self._locks = Locks(self.project)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self._workspace.config.root)!r}, project={self.project!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def project(self) -> str:
        """The project's name."""
        return self._workspace.config.project

    def plan(self) -> Plan:
        """Say what `apply` would change, and why; writes nothing."""
        return planning.plan(self._workspace).plan

    def apply(self) -> Plan:
        """Register what the repo defines; computes nothing."""
        return applying.apply(self._workspace)

    def list_feature_views(self) -> tuple[View, ...]:
        """Give the applied views, by name."""
        return self._workspace.project().views

    def list_feature_services(self) -> tuple[Service, ...]:
        """Give the applied services, by name."""
        return self._workspace.project().services

    @overload
    def materialize(
        self,
        start_date: datetime,
        end_date: datetime,
        feature_views: Sequence[str] = ...,
        *,
        dry_run: Literal[False] = ...,
    ) -> tuple[Outcome, ...]: ...

    @overload
    def materialize(
        self,
        start_date: datetime,
        end_date: datetime,
        feature_views: Sequence[str] = ...,
        *,
        dry_run: Literal[True],
    ) -> tuple[Due, ...]: ...

    def materialize(
        self,
        start_date: datetime,
        end_date: datetime,
        feature_views: Sequence[str] = (),
        *,
        dry_run: bool = False,
    ) -> tuple[Outcome, ...] | tuple[Due, ...]:
        """Materialize what became known in [start_date, end_date]; naive moments are UTC.

        With `dry_run` the runs that this would take are given, and nothing is written.
        """
        start, end = micros(start_date), micros(end_date)
        job = materializing.due if dry_run else materializing.materialize
        return job(self._workspace, start, end, views=feature_views)

    @overload
    def materialize_incremental(
        self,
        end_date: datetime,
        feature_views: Sequence[str] = ...,
        *,
        dry_run: Literal[False] = ...,
    ) -> tuple[Outcome, ...]: ...

    @overload
    def materialize_incremental(
        self, end_date: datetime, feature_views: Sequence[str] = ..., *, dry_run: Literal[True]
    ) -> tuple[Due, ...]: ...

    def materialize_incremental(
        self, end_date: datetime, feature_views: Sequence[str] = (), *, dry_run: bool = False
    ) -> tuple[Outcome, ...] | tuple[Due, ...]:
        """Materialize what became known since each view's watermark, to `end_date` included.

        What changed in the source before that is computed again. With `dry_run` the runs that this
        would take are given, and nothing is written.
        """
        job = materializing.due_incremental if dry_run else materializing.materialize_incremental
        return job(self._workspace, micros(end_date), views=feature_views)

    def backfill(
        self, feature_views: Sequence[str] = (), *, alias: str = "prod", again: bool = False
    ) -> tuple[Outcome, ...]:
        """Compute the applied versions' tables beside the live ones, over what those cover.

        `again` computes the named views into a new generation of their tables, so that a load under
        suspicion stands beside the last good one.
        """
        return backfilling.backfill(self._workspace, alias, views=feature_views, again=again)

    def verify(
        self, alias: str = "prod", *, live: bool = False, everything: bool = False
    ) -> verifying.Verified:
        """Check that what the next promotion would serve is what training reads.

        With `live` what the alias serves now is checked; `everything` takes all entities, not a
        sample. Its `differences` name entity and feature of every value that differs.
        """
        return verifying.verify(self._workspace, alias, live=live, everything=everything)

    def promote(self, alias: str = "prod", *, plan_id: str | None = None) -> Release:
        """Make what is applied, computed and verified the release that an alias names.

        With a plan's id, that is what was planned, or nothing.
        """
        return promoting.promote(self._workspace, alias, plan_id=plan_id).release

    def rollback(self, alias: str = "prod", *, to: int | None = None) -> Release:
        """Give an alias back what it named before, or the content of release `to`."""
        return promoting.rollback(self._workspace, alias, to=to).release

    def register_lock(
        self, lock: Lock, *, owner: str, expires: datetime | None = None
    ) -> locking.Kept:
        """Keep a lock's data alive, and every alias able to answer it, until it is retired."""
        until = None if expires is None else micros(expires)
        return locking.register(self._workspace, lock, owner=owner, expires=until)

    def retire_lock(self, lock_id: str) -> Registered:
        """Let go of a registered lock, by its id or the start of it."""
        return locking.retire(self._workspace, lock_id)

    def get_historical_features(
        self,
        entity_df: Any = None,
        features: Features | None = None,
        *,
        lock: Lock | str | Path | None = None,
        as_locked: bool = True,
        full_feature_names: bool = False,
        as_known: bool = True,
        allow_stale: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        executor: Executor | None = None,
    ) -> TrainingSet:
        """Join features to entity rows, each row as of its own moment.

        The join runs when its values are first looked at. Without entity rows, every entity that
        was seen from `start_date` to `end_date` is one, as of `end_date`.

        Either features are named, or a lock is given: then its outputs come back under its names,
        versions, ttl and `as_known`, from the very data that it names. Equal entity rows give an
        equal training set, whatever was materialized since.

        Args:
            entity_df: pandas or Polars frame, Arrow table, or the path of a Parquet file, with an
                `event_timestamp` column (naive means UTC), the join keys and request data. In a
                pandas frame NaN is a missing value, as pandas means it; elsewhere it is a number.
            features: a service's name; a list of `view:feature` and `view@version:feature`
                references; or view and service objects, which are computed from their sources as a
                draft, without being applied.
            lock: a lock, or the path of its JSON.
            as_locked: False reads a lock's versions from the tables as they are now, to retrain.
            full_feature_names: name outputs `view__feature`.
            as_known: use only rows known at the moment; False goes by event time alone.
            allow_stale: accept moments after a table's watermark.
            start_date: from when an entity counts as seen, without `entity_df`; by default the
                longest ttl before `end_date`, or 30 days. Naive means UTC.
            end_date: the moment of all rows without `entity_df`; now by default.
            executor: what runs the join: `LocalExecutor` (the default, in half of the memory) or
                `RayExecutor`; the answer is the same.

        Returns:
            A training set: every entity row once, in its order, with its own columns untouched.

        Raises:
            NotFound: a service, view or feature is not known.
            InvalidRequest: a column is missing or of a dtype that cannot be joined; or the lock
                is a draft, another project's, or contradicts itself.
            NotMaterialized: a table does not cover what the rows need, or a lock's data are gone.
        """
        if lock is not None:
            if features is not None or full_feature_names or not as_known:
                raise InvalidRequest(
                    "lock: says which features are answered, their names and as_known; leave "
                    "features, full_feature_names and as_known out"
                )
            if entity_df is None:
                raise InvalidRequest("entity_df: is missing; a lock answers the rows it is given")
            return self._locked(
                entity_df, read_lock(lock), as_locked, allow_stale=allow_stale, executor=executor
            )
        projections, catalog, draft = self._asked(() if features is None else features)
        query = resolve(projections, catalog, full_feature_names=full_feature_names)
        tables = (
            DraftTables(self._workspace.config.sources)
            if draft
            else StoredTables(self._workspace, query=query)
        )
        if entity_df is None:
            end = self._workspace.clock() if end_date is None else micros(end_date)
            start = None if start_date is None else micros(start_date)
            entity_df = observed(
                query, tables, start, end, as_known=as_known, allow_stale=allow_stale
            )
        elif start_date is not None or end_date is not None:
            raise InvalidRequest(
                "start_date, end_date: say which entities to take where no entity_df is given; "
                "leave them or entity_df out"
            )
        return training_set(
            entity_df,
            query,
            tables,
            project=self.project,
            service=features if isinstance(features, str) and ":" not in features else None,
            as_known=as_known,
            allow_stale=allow_stale,
            draft=draft,
            executor=executor,
        )

    def _locked(
        self,
        entity_df: Any,
        lock: Lock,
        as_locked: bool,
        *,
        allow_stale: bool,
        executor: Executor | None,
    ) -> TrainingSet:
        """Build the training set of a lock, from its data or from the tables as they are now."""
        admit(lock, project=self.project)
        versions = self._workspace.registry.all_versions()
        for number, one in enumerate(lock.views):
            if one.id not in versions:
                raise NotFound(
                    f"lock.views[{number}].id: {one.name}@{one.id[:12]} is not registered here; "
                    "run `featurestore apply` at the commit that defined it"
                )
        query = locked(lock, Catalog(others=tuple(versions.values())))
        tables = StoredTables(self._workspace, query=query, lock=lock if as_locked else None)
        try:
            return training_set(
                entity_df,
                query,
                tables,
                project=self.project,
                service=lock.service,
                as_known=lock.as_known,
                allow_stale=allow_stale or lock.allow_stale,
                executor=executor,
            )
        except NotMaterialized as error:
            if not as_locked:
                raise
            raise NotMaterialized(
                f"lock: {str(error).partition('; ')[0]}; the data that a lock names stay as they "
                "are: pass as_locked=False to read the tables as they are now"
            ) from error

    def get_online_features(
        self,
        features: str | Sequence[str] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        lock: Lock | str | Path | None = None,
        entities: Columns | None = None,
        request_data: Columns | None = None,
        full_feature_names: bool = False,
        as_of: datetime | None = None,
        alias: str = "prod",
    ) -> OnlineResponse:
        """Look features up in this process, with a server's code but without a server.

        The arguments are `FeatureClient.get_online_features`'s; `alias` names the release, `lock`
        is a lock or the path of its JSON.

        Raises:
            NotFound: the alias, service, view or feature is not known.
            InvalidRequest: the entities or request data do not fit.
            OnlineDataMissing, Unavailable: Redis was emptied, or cannot be reached.
        """
        message, brought = request_message(
            features,
            entity_rows,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            as_of=as_of,
            lock=None if lock is None else LockReference.of(read_lock(lock)),
        )
        raw = respond(
            state_of(self._workspace.releases.alias(alias)),
            message.SerializeToString(),
            most=Limits().rows,
            clock=self._workspace.clock,
            read=self._workspace.online().read,
            locks=self._locks,
        )
        return read_response(raw, brought)

    def push(
        self,
        push_source_name: str,
        df: Any,
        allow_registry_cache: bool = True,  # noqa: ARG002 - Feast's; nothing is cached here
        to: Any = "online_and_offline",
        *,
        max_skew: timedelta = timedelta(minutes=10),
    ) -> PushResult:
        """Push rows to a source: they are its rows from now on, as if its file had them.

        Every row is judged; bad ones are refused with their reasons, and the others are taken:
        first into the log of the source's pushed rows, which materialization and drafts read as
        they read the file, then into each served table whose view reads the source, computed by the
        same expressions. Pushing rows again changes no answer, and neither does it that they land
        in the file as well.

        Args:
            push_source_name: the PushSource's name.
            df: pandas or Polars frame, Arrow table, or columns by name: the source's columns, under
                the names that expressions use. What no view needs may be left out. Naive datetimes
                are local times of the source's time zone, else UTC. A row without created
                timestamp became known when it arrived.
            allow_registry_cache: of no effect.
            to: `online_and_offline`, `online` (until something newer is written; nothing brings
                what cannot be written there) or `offline`; or Feast's `PushMode`.
            max_skew: how far in the future an event may lie.

        Returns:
            What was accepted, how safe it is, and why the rest was not.

        Raises:
            NotFound: no applied or live view reads a PushSource of this name.
            InvalidRequest: the rows cannot be read, or another argument is not of its kind.
            NotMaterialized: they are to go online only, where no view of theirs is served.
            SourceError: the log cannot hold the rows.
            Unavailable: a store cannot be reached; the message says if the rows are safe offline.
        """
        return pushing.push(
            self._workspace,
            push_source_name,
            df,
            to=where(to),
            max_skew=skew_of(max_skew),
        )

    def _asked(self, features: Features) -> tuple[tuple[Projection, ...], Catalog, bool]:
        """Give the projections asked for, the views they may use, and whether any is a draft."""
        listed = [features] if isinstance(features, str) or _is_definition(features) else features
        if not isinstance(listed, Sequence):
            raise InvalidRequest(
                f"features: {type(features).__name__} names no features; pass a service's name, a "
                "list of 'view:feature' references, or view and service objects"
            )
        draft = any(_is_definition(one) for one in listed)
        only_drafts = draft and all(_is_definition(one) for one in listed)
        project = None if only_drafts else self._workspace.project()
        views = {v.name: v for v in project.views} if project else {}
        services = {s.name: s for s in project.services} if project else {}
        pinned = any(isinstance(one, str) and "@" in one for one in listed)
        others = self._workspace.registry.all_versions().values() if pinned else ()
        catalog = Catalog(current=views, others=tuple(others))
        projections: list[Projection] = []
        for one in listed:
            if _is_definition(one):
                reading = _definitions()
                made = reading.document(one, self._workspace.config.root)
                views.update({view.name: view for view in made})
                projections += reading.projections(one)
            elif not isinstance(one, str):
                raise InvalidRequest(
                    f"features: {type(one).__name__} is no reference, view or service; write "
                    "'view:feature', or pass the object"
                )
            elif ":" in one:
                projections += references([one], catalog)
            elif one in services:
                projections += services[one].projections
            else:
                raise NotFound(
                    f"features: no service is called {one!r}{suggest(one, services)} "
                    "(a feature is asked for as 'view:feature')"
                )
        if not projections:
            references((), catalog)
        return tuple(projections), catalog, draft

    def close(self) -> None:
        """Give connections back; the embedded server keeps running."""
        self._workspace.close()


class _Definitions(Protocol):
    def document(self, thing: Any, root: Path) -> tuple[View, ...]: ...

    def projections(self, thing: Any) -> tuple[Projection, ...]: ...


def _is_definition(thing: object) -> bool:
    """Say whether an object is a Feast definition, without importing feast."""
    return any(kind.__module__.partition(".")[0] == "feast" for kind in type(thing).__mro__)


def _definitions() -> _Definitions:
    """Load the definitions room, and with it feast: only called when the caller has it loaded."""
    return import_module("featurestore.definitions")
