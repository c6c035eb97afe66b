"""Documents as SQL holds them, and the audit that goes with every write of one.

What the registry's modules share: a stored document is read with its checks, or it is an error.
"""

from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa

from featurestore.errors import Conflict, CorruptData
from featurestore.model.documents import Project, Release, Service, View, load
from featurestore.model.identity import tampered
from featurestore.storage import sql

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the audit: who did what, when (UTC microseconds) and from which git commit."""

    at: int
    who: str
    commit: str | None
    action: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who writes to a project, when (UTC microseconds) and from which git commit."""

    project: str
    now: int
    who: str
    commit: str | None

    def note(self, connection: sa.Connection, action: str, detail: str) -> None:
        """Add a line to the audit, in the transaction of what it tells."""
        connection.execute(
            sa.insert(sql.AUDIT).values(
                project=self.project,
                at=self.now,
                who=self.who,
                commit=self.commit,
                action=action,
                detail=detail,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A lease that a write depends on: who holds it, by the owner it was taken as."""

    lease: str
    owner: str

    def must_hold(self, connection: sa.Connection, project: str) -> None:
        """Hold the lease's row to the transaction's end; two turns never write side by side.

        Raises:
            Conflict: the lease expired, and another process took it over.
        """
        table = sql.LEASES.c
        mine = (table.project == project, table.name == self.lease, table.owner == self.owner)
        held = connection.execute(sa.update(sql.LEASES).where(*mine).values(owner=self.owner))
        if held.rowcount != 1:
            raise Conflict(
                f"{self.lease}: this process outlived its lease and another one took its turn; "
                "nothing was written: run it again"
            )


def read(body: str, kind: type[T]) -> T:
    """Read a stored document; the ids of a view, service, project or release must be its content's.

    Raises:
        CorruptData: the text is not what was written.
    """
    try:
        document = load(body, kind)
    except (ValueError, RecursionError) as error:
        raise CorruptData(
            f"registry: a stored document is not as it was written: {error}; restore the "
            "database, or apply with the release that wrote it"
        ) from error
    if isinstance(document, View | Service | Project | Release):
        path = tampered(document)
        if path is not None:
            raise misfit(path)
    return document


def misfit(path: str) -> CorruptData:
    """Give the error of a stored document whose id is not that of its content."""
    return CorruptData(
        f"registry: {path} no longer matches its content; restore the registry from a backup"
    )


def must_move(result: sa.CursorResult[tuple[object, ...]], action: str) -> None:
    """Refuse a compare-and-set that found something else than it expected."""
    if result.rowcount != 1:
        raise Conflict(lost(action))


def lost(action: str) -> str:
    """Tell the loser of a race."""
    return f"{action}: somebody else did so first and nothing was written; plan and {action} again"
