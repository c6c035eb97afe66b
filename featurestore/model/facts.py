"""What is known of a project at a moment: releases and moves, locks, tables, verifications.

Jobs gather it from the stores; every decision is a pure reading of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from featurestore.model.documents import Project, Release, Table, View
from featurestore.model.lock import Lock

Action = Literal["promote", "rollback", "warm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of an alias: the release it names from `at` on (UTC microseconds).

    `previous` is the release that a rollback from there goes back to, None if there is none.
    """

    alias: str
    number: int
    previous: int | None
    action: Action
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered lock: it keeps its data alive until it expires or is retired."""

    id: str
    lock: Lock
    owner: str
    registered: int
    expires: int | None = None
    retired: int | None = None

    def holds(self, now: int) -> bool:
        """Say whether it still keeps its data alive at a moment."""
        return self.retired is None and (self.expires is None or self.expires > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a project at a moment.

    `releases` are the recent ones: named by an alias, or left by one within the retention. `tables`
    are those that were not collected, `versions` the registered views by id. `written` is when each
    table, by id, was last worked on; `verified` are pairs of version and table ids that passed a
    verification which still stands, or are live and failed none since; `passed` those whose newest
    one passed, if rows were corrected since or not, or that are live. The table id of an on-demand
    version is empty. `rejected` are tables that an alias was rolled back from to another
    generation of the same data. `retention` is in microseconds.
    """

    now: int
    retention: int
    head: Project | None
    aliases: Mapping[str, int]
    moves: Sequence[Move]
    releases: Mapping[int, Release]
    locks: Sequence[Registered]
    tables: Sequence[Table]
    versions: Mapping[str, View]
    written: Mapping[str, int]
    verified: frozenset[tuple[str, str]] = frozenset()
    passed: frozenset[tuple[str, str]] = frozenset()
    rejected: frozenset[Table] = frozenset()

    def proven(self, view: View, table: Table | None) -> bool:
        """Say whether a version (with its table, if it stores rows) may go live as it is."""
        if view.kind == "batch" and table is None:
            return False
        return (view.id, table.id if table else "") in self.verified

    def newest(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table that was not rejected, or None.

        Where all were rejected it is the newest of them.
        """
        found = [table for table in self.tables if table.data_id == data_id]
        order = sorted(found, key=lambda table: (table not in self.rejected, table.generation))
        return order[-1] if order else None

    def sound(self, data_id: str) -> Table | None:
        """Give the newest verified generation of a data id's table, else the newest."""
        passed = {table for _, table in self.passed | self.verified}
        found = [
            table
            for table in self.tables
            if table.data_id == data_id and table.id in passed and table not in self.rejected
        ]
        return max(found, key=lambda table: table.generation, default=self.newest(data_id))
