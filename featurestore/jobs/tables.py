"""Where training reads rows: the offline tables, or (drafts) the source itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from featurestore.errors import NotMaterialized
from featurestore.jobs.compute import feature_rows
from featurestore.jobs.facts import committed
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.time import BEGINNING, CREATED, EVENT, KNOWN, REVISION, Interval, show

ALWAYS = Interval(start=BEGINNING, end=253_402_300_799_999_999)
"""From the beginning to the end of the year 9999."""


class StoredTables:
    """The tables of views, as the ledger vouches for them.

    `chosen` names tables by version id; other versions are read from their newest.
    """

    def __init__(self, workspace: Workspace, chosen: Mapping[str, Table] | None = None) -> None:
        self._workspace = workspace
        self._chosen = chosen or {}

    def rows(self, view: View, features: Sequence[str]) -> pl.DataFrame:
        """Give the rows of a view's table with the asked features."""
        table = self._table(view)
        return self._workspace.offline.rows(
            view,
            table,
            features=features,
            version=committed(self._workspace, table),
            checksums=self._workspace.ledger.checksums(table.id),
        )

    def covered(self, view: View) -> tuple[Interval, ...]:
        """Give the known-at intervals that the view's table holds."""
        table = self._chosen.get(view.id) or self._workspace.table(view)
        return self._workspace.ledger.covered(table.id) if table else ()

    def data_version(self, view: View) -> str:
        """Give the table's id and Delta version: `7f3a9c1e04b2aa10.0/12`."""
        table = self._table(view)
        return f"{table.id}/{committed(self._workspace, table)}"

    def _table(self, view: View) -> Table:
        table = self._chosen.get(view.id) or self._workspace.table(view)
        if table is None:
            raise NotMaterialized(
                f"{view.name}: {view.version} has no table; run "
                "`featurestore materialize START END`"
            )
        return table


class DraftTables:
    """Views computed from their sources when asked for: no apply, no registry, no Redis."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._computed: dict[str, pl.DataFrame] = {}

    def rows(self, view: View, features: Sequence[str]) -> pl.DataFrame:
        """Compute all rows of a view's source, once."""
        if view.id not in self._computed:
            made = feature_rows(view, self._root, ALWAYS)
            self._computed[view.id] = made.with_columns(pl.lit(0, pl.UInt32).alias(REVISION))
        keys = [k.name for k in view.join_keys]
        return self._computed[view.id].select(*keys, EVENT, CREATED, KNOWN, REVISION, *features)

    def covered(self, view: View) -> tuple[Interval, ...]:  # noqa: ARG002 - the protocol's shape
        """A draft reads the whole source."""
        return (ALWAYS,)

    def data_version(self, view: View) -> str:
        """Name the draft by its data id and what it read."""
        rows = self.rows(view, ())
        newest = rows[KNOWN].to_physical().max() if rows.height else None
        last = newest if isinstance(newest, int) else None
        return f"draft {view.data_id[:16]} ({rows.height} rows to {show(last)})"
