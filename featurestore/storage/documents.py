"""Documents as SQL holds them, and the audit that goes with every write of one.

What the registry's modules share: a stored document is read with its checks, or it is an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import sqlalchemy as sa

from featurestore.errors import Conflict, CorruptData
from featurestore.model.documents import Expression, View, load
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


def read(body: str, kind: type[T]) -> T:
    """Read a stored document.

    Raises:
        CorruptData: the text is not what was written.
    """
    try:
        return load(body, kind)
    except (ValueError, RecursionError) as error:
        raise CorruptData(
            f"registry: a stored document is not as it was written: {error}; restore the "
            "database, or apply with the release that wrote it"
        ) from error


def spelled(view: View, others: Iterable[View]) -> View:
    """Give a view with the spellings that other copies of it hold, one per dialect, own first."""
    for other in others:
        named = {feature.name: feature.expression for feature in other.features}
        features = tuple(
            replace(one, expression=_merged(one.expression, named.get(one.name)))
            for one in view.features
        )
        kept = None if view.filter is None else _merged(view.filter, other.filter)
        view = replace(view, features=features, filter=kept)
    return view


def _merged(mine: Expression, other: Expression | None) -> Expression:
    dialects = {one.dialect for one in mine.spellings}
    more = () if other is None else other.spellings
    return Expression(spellings=(*mine.spellings, *(s for s in more if s.dialect not in dialects)))


def must_move(result: sa.CursorResult[tuple[object, ...]], action: str) -> None:
    """Refuse a compare-and-set that found something else than it expected."""
    if result.rowcount != 1:
        raise Conflict(lost(action))


def lost(action: str) -> str:
    """Tell the loser of a race."""
    return f"{action}: somebody else did so first and nothing was written; plan and {action} again"
