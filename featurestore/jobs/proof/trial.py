"""A release on trial: its tables as they were when the trial began, and what they are compared by.

What is read is fixed, while runs go on beside it: a difference counts only if it is one to every
state of the tables that may be shown now (`settled`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from featurestore.errors import Conflict, NotMaterialized
from featurestore.jobs.online import stored_rows
from featurestore.jobs.tables import ALWAYS, Place, StoredTables, place_of
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, Table, View
from featurestore.model.time import BEGINNING, CREATED, EVENT, KNOWN, Interval
from featurestore.model.windows import windows
from featurestore.serving.client.client import FeatureClient
from featurestore.storage.packed import latest

SAMPLE = 1_000
"""Entities of each view that are checked unless all are."""

MATCH = "__match"
"""A column that is the same in all rows: what rows of views without keys are joined on."""

_TIMES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A release on trial; `keys` are the sampled keys by view id, as checks come to them.

    `places` are its tables, by id, as they were when the trial began. With a `client` its server
    answers, else the server's code in this process.
    """

    workspace: Workspace
    release: Release
    everything: bool
    client: FeatureClient | None
    places: Mapping[str, Place]
    keys: dict[str, pl.DataFrame] = field(default_factory=dict)
    _known: dict[Place, pl.DataFrame] = field(default_factory=dict)
    _newest: dict[Place, pl.DataFrame] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """What the samples are drawn by."""
        return self.workspace.clock() % 2**32

    def place(self, one: LiveView) -> Place:
        """Give the table of a view of the release as it was when the trial began."""
        assert one.table is not None
        return self.places[one.table.id]

    def winners(self, view: View, place: Place) -> pl.DataFrame:
        """Give each key's newest row in a state of a table; `known` remembers when it was known."""
        rows = stored_rows(self.workspace, view, place.table, version=place.version)
        found = matching(latest(view, rows))
        keys = [key.name for key in view.join_keys]
        times = (pl.col(name).to_physical().fill_null(BEGINNING) for name in (EVENT, CREATED))
        self._newest[place] = found.select(*keys, MATCH, *times)
        # Windows count every event of a key, and so know of its newest from the last known one on.
        known = matching(rows).group_by(*keys, MATCH).agg(pl.col(KNOWN).max())
        self._known[place] = (known if windows(view) else found).select(
            *keys, MATCH, pl.col(KNOWN).to_physical()
        )
        return found

    def known(self, view: View, place: Place) -> pl.DataFrame:
        """Give when each key's newest row in a state of a table was known, UTC microseconds."""
        if place not in self._known:
            self.winners(view, place)
        return self._known[place]

    def newest(self, view: View, place: Place) -> pl.DataFrame:
        """Give the event and created time of each key's newest row in a state of a table, µs."""
        if place not in self._newest:
            self.winners(view, place)
        return self._newest[place]

    def sampled(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Give some of the rows, or all."""
        if self.everything or rows.height <= SAMPLE:
            return rows
        return rows.sample(SAMPLE, seed=self.seed)


class AsTheyStand(StoredTables):
    """Tables read for comparison: gaps are for `promote` to refuse, what stands is compared."""

    def covered(self, view: View) -> tuple[Interval, ...]:  # noqa: ARG002 - the protocol's shape
        """Let every moment be asked for."""
        return (ALWAYS,)


def trial_of(
    workspace: Workspace,
    release: Release,
    *,
    everything: bool = False,
    client: FeatureClient | None = None,
) -> Trial:
    """Put a release on trial: its tables as they are now, their files not trusted any more.

    Raises:
        NotMaterialized: a table holds nothing yet.
    """
    workspace.offline.distrust()
    places = {}
    for one in release.views:
        place = place_of(workspace, one.table) if one.table else None
        if one.table is not None and place is None:
            raise NotMaterialized(
                f"{one.view.name}: {one.view.version} has nothing in its table; run `featurestore "
                "materialize START END`"
            )
        if place is not None:
            places[place.table.id] = place
    return Trial(
        workspace=workspace, release=release, everything=everything, client=client, places=places
    )


def matching(rows: pl.DataFrame) -> pl.DataFrame:
    """Give rows the column that those of views without keys are joined on."""
    return rows.with_columns(pl.repeat(0, rows.height, dtype=pl.UInt8, eager=True).alias(MATCH))


def settled(
    workspace: Workspace,
    tables: Sequence[Table],
    wrong: pl.DataFrame,
    again: Callable[[pl.DataFrame], pl.DataFrame],
) -> pl.DataFrame:
    """Check again what is wrong, until no run moved meanwhile: only what stays wrong is.

    Raises:
        Conflict: runs wrote to the tables every time; nothing is known of what differed.
    """
    for _ in range(_TIMES):
        if wrong.is_empty():
            return wrong
        before = _moves(workspace, tables)
        wrong = again(wrong)
        if _moves(workspace, tables) == before:
            return wrong
    raise Conflict(
        f"verify: runs wrote to {', '.join(table.id for table in tables)} each of the {_TIMES} "
        f"times that {wrong.height} rows were compared again; run it again when fewer are on"
    )


def _moves(workspace: Workspace, tables: Sequence[Table]) -> list[tuple[str, str]]:
    return [(run.id, run.state) for one in tables for run in workspace.ledger.runs(one.id)]
