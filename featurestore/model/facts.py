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
    table, by id, was last worked on; `verified` are version and table ids with the alias that they
    were proven for: what passed a verification that still stands, or was live there of late, and
    failed none since (no alias: proven by itself, which is not enough to go live); `failed` those
    that failed one and passed none since that asked as much; `passed` the pairs that passed and did
    not fail since, if rows were corrected or not, or that are live. The table id of an on-demand
    version is empty. `rejected` are tables that an alias was rolled back from to another generation
    of the same data. `retention` is in microseconds.
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
    verified: frozenset[tuple[str, str, str]] = frozenset()
    failed: frozenset[tuple[str, str, str]] = frozenset()
    passed: frozenset[tuple[str, str]] = frozenset()
    rejected: frozenset[Table] = frozenset()

    def proven(self, view: View, table: Table | None, alias: str) -> bool:
        """Say whether a version (with its table, if it stores rows) may go live in an alias."""
        if view.kind == "batch" and table is None:
            return False
        return (view.id, table.id if table else "", alias) in self.verified

    def wrong(self, view: View, table: Table | None, alias: str) -> bool:
        """Say whether a version's last verification, by itself or for an alias, failed."""
        pair = (view.id, table.id if table else "")
        return not {(*pair, ""), (*pair, alias)}.isdisjoint(self.failed)

    def holds(self, view: View, table: Table) -> bool:
        """Say whether a version's table was found equal to what is served, for whichever alias."""
        found = (one for one in self.verified if one[:2] == (view.id, table.id))
        return next(found, None) is not None

    def promoted(self, alias: str) -> int | None:
        """Give the release that an alias was last promoted or rolled back to."""
        steps = [one for one in self.moves if one.alias == alias and one.action != "warm"]
        return steps[-1].number if steps else None

    def newest(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table that was not rejected, or None.

        Where all were rejected it is the newest of them.
        """
        found = [table for table in self.tables if table.data_id == data_id]
        order = sorted(found, key=lambda table: (table not in self.rejected, table.generation))
        return order[-1] if order else None

    def sound(self, data_id: str) -> Table | None:
        """Give the verified generation of a data id's table that is served, else the newest one.

        Served means here: carried by what an alias names. Where none is verified, it is the newest.
        """
        passed = {table for _, table in self.passed}
        named = (self.releases[number] for number in self.aliases.values())
        carried = {one.table for release in named for one in release.warm}
        found = [
            table
            for table in self.tables
            if table.data_id == data_id and table.id in passed and table not in self.rejected
        ]
        order = sorted(found, key=lambda table: (table in carried, table.generation))
        return order[-1] if order else self.newest(data_id)
