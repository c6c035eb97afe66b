"""Where training reads rows: the offline tables, or (drafts) the source itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.errors import InvalidRequest, NotMaterialized
from featurestore.jobs.compute import feature_rows
from featurestore.jobs.facts import serving_table
from featurestore.jobs.leases import table_lease
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.lock import Lock
from featurestore.model.query import Query
from featurestore.model.time import (
    BEGINNING,
    ENDING,
    KNOWN,
    REVISION,
    Interval,
    show,
    union,
    watermark,
)
from featurestore.storage.ledger import Run
from featurestore.storage.pushed import Roots
from featurestore.training.tables import Parts

ALWAYS = Interval(start=BEGINNING, end=ENDING)
"""From the beginning to the end of the year 9999."""

DATA = re.compile(r"(?P<table>[0-9a-f]{16}\.(?:0|[1-9][0-9]{0,8}))/(?P<version>[0-9]{1,18})")
"""What a lock calls the data of a stored view: a table and its Delta version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A table at a Delta version, with the known-at intervals that it holds there."""

    table: Table
    version: int
    covered: tuple[Interval, ...]

    @property
    def watermark(self) -> int:
        """The moment up to and including which the newest stretch is complete, UTC µs."""
        return watermark(self.covered) or 0


def place_of(workspace: Workspace, table: Table, version: int | None = None) -> Place | None:
    """Give a table as it was at a Delta version (None: now), None if no run stands in it."""
    return _place(table, workspace.ledger.runs(table.id), version)


def shown(workspace: Workspace, table: Table) -> tuple[Place, ...]:
    """Give the states of a table that Redis may show now, the newest last.

    That is the newest one; while a run brings Redis in line with it, also the one before that run.
    A run that died is no excuse.
    """
    runs = workspace.ledger.runs(table.id)
    bringing = [run.base_version for run in runs if run.state == "committed"]
    held = bringing and workspace.ledger.is_leased(table_lease(table), now=workspace.clock())
    if bringing and not held:
        runs, bringing = workspace.ledger.runs(table.id), []
    states = (_place(table, runs, version) for version in (*bringing, None))
    return tuple(dict.fromkeys(state for state in states if state is not None))


def _done(runs: Sequence[Run]) -> list[tuple[int, Interval]]:
    return [
        (run.delta_version, run.interval)
        for run in runs
        if run.state in ("committed", "served") and run.delta_version is not None
    ]


def _place(table: Table, runs: Sequence[Run], version: int | None) -> Place | None:
    held = [one for one in _done(runs) if version is None or one[0] <= version]
    if not held:
        return None
    return Place(
        table=table,
        version=max(at for at, _ in held),
        covered=union(interval for _, interval in held),
    )


class StoredTables:
    """The tables of registered versions, as the ledger vouches for them; for one call.

    A version is read at the place `chosen` for its id; with a lock, from the very data that the
    lock names; else from its table that an alias serves, or its newest. Without a table of its own,
    the newest version of the view that holds every feature asked for (by a query, or all) answers:
    equal feature ids are equal features.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        query: Query | None = None,
        lock: Lock | None = None,
        chosen: Mapping[str, Place] | None = None,
    ) -> None:
        self._workspace = workspace
        self._lock = lock
        self._places: dict[str, Place | None] = dict(chosen or {})
        self._asked: dict[str, set[str]] = {}
        for lookup in query.lookups if query else ():
            ids = (feature.id for feature in lookup.features)
            self._asked.setdefault(lookup.view.id, set()).update(ids)

    def parts(self, view: View, events: Interval) -> Parts:
        """Give the rows of a view's table by bucket."""
        place = self._there(view)
        stored = self._workspace.offline.parts(
            view,
            place.table,
            version=place.version,
            events=events,
            checksums=self._workspace.ledger.checksums(place.table.id),
        )
        return Parts(
            buckets=place.table.buckets,
            parts=stored.parts,
            name=self.data_version(view),
            files=stored.files,
            bytes=stored.bytes,
            pruned=stored.pruned,
            pruned_bytes=stored.pruned_bytes,
        )

    def covered(self, view: View) -> tuple[Interval, ...]:
        """Give the known-at intervals that the view's table holds."""
        place = self._place(view)
        return place.covered if place else ()

    def data_version(self, view: View) -> str:
        """Give the table's id and Delta version: `7f3a9c1e04b2aa10.0/12`."""
        place = self._there(view)
        return f"{place.table.id}/{place.version}"

    def _there(self, view: View) -> Place:
        place = self._place(view)
        if place is None:
            raise NotMaterialized(
                f"{view.name}: {view.version} has no table; run `featurestore materialize START "
                "END`"
            )
        return place

    def _place(self, view: View) -> Place | None:
        """Decide once where a view is read, so that the lock names what the rows came from."""
        if view.id not in self._places:
            find = self._newest if self._lock is None else self._locked
            self._places[view.id] = find(view)
        return self._places[view.id]

    def _newest(self, view: View) -> Place | None:
        """Find a version's table, at the newest Delta version the ledger knows to be committed."""
        own = serving_table(self._workspace, view)
        place = self._at(own) if own else None
        for other in () if place else reversed(self._workspace.registry.versions(view.name)):
            table = self._workspace.table(other) if self._holds(other, view) else None
            place = place or (self._at(table) if table else None)
        return place

    def _locked(self, view: View) -> Place:
        """Find the table and Delta version that the lock names for a version."""
        assert self._lock is not None
        ids = [one.id for one in self._lock.views]
        path = f"lock.views[{ids.index(view.id)}].data"
        data = self._lock.views[ids.index(view.id)].data or ""
        named = DATA.fullmatch(data)
        if named is None:
            raise InvalidRequest(f"{path}: {data!r} names no table and version")
        versions = self._workspace.registry.versions(view.name)
        of_table = (one for one in versions if one.data_id[:16] == named["table"].partition(".")[0])
        if not any(self._holds(one, view) for one in of_table):
            raise InvalidRequest(f"{path}: {data} is no table with the features of {view.version}")
        tables = {table.id: table for table in self._workspace.ledger.tables()}
        version = int(named["version"])
        place = self._at(tables[named["table"]], version) if named["table"] in tables else None
        if place is None or place.version != version:
            raise NotMaterialized(f"{view.name}: the data of {view.version}, {data}, are gone")
        return place

    def _holds(self, other: View, view: View) -> bool:
        """Say whether another version has every feature that is asked of a view."""
        asked = self._asked.get(view.id, {feature.id for feature in view.features})
        return asked <= {feature.id for feature in other.features}

    def _at(self, table: Table, version: int | None = None) -> Place | None:
        return place_of(self._workspace, table, version)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DraftPart:
    """The rows of a view computed from its source, in one bucket."""

    frame: pl.DataFrame
    bucket: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.frame.height

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Give some columns of all rows."""
        return self.frame.select(columns)


class DraftTables:
    """Views computed from their sources when asked for: no apply, no registry, no Redis."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._computed: dict[str, pl.DataFrame] = {}

    def parts(self, view: View, events: Interval) -> Parts:  # noqa: ARG002 - the protocol's shape
        """Compute all rows of a view's source, once."""
        return Parts(
            buckets=1, parts=(DraftPart(frame=self._rows(view)),), name=self.data_version(view)
        )

    def _rows(self, view: View) -> pl.DataFrame:
        if view.id not in self._computed:
            made = feature_rows(view, self._roots, ALWAYS)
            self._computed[view.id] = made.with_columns(pl.lit(0, pl.UInt32).alias(REVISION))
        return self._computed[view.id]

    def covered(self, view: View) -> tuple[Interval, ...]:  # noqa: ARG002 - the protocol's shape
        """A draft reads the whole source."""
        return (ALWAYS,)

    def data_version(self, view: View) -> str:
        """Name the draft by its data id and what it read."""
        rows = self._rows(view)
        newest = rows[KNOWN].to_physical().max() if rows.height else None
        last = newest if isinstance(newest, int) else None
        return f"draft {view.data_id[:16]} ({rows.height} rows to {show(last)})"
