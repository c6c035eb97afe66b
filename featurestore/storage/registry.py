"""The registry: immutable documents, heads, releases and aliases, in SQL.

A document is written once; heads and aliases move by compare-and-set inside a transaction, so two
writers give both effects or one `Conflict`, never a mixture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict, CorruptData, NotFound
from featurestore.model.documents import Project, Release, Service, View, dump, load
from featurestore.model.names import suggest
from featurestore.storage import sql

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is applied: the project's document and the revision that compare-and-set needs."""

    project: Project
    revision: int
    applied: int


class Registry:
    """All documents, releases and aliases of one project."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine = engine
        self._project = project

    def head(self) -> Head | None:
        """Give what is applied now, or None before the first apply."""
        query = sa.select(sql.HEADS).where(sql.HEADS.c.project == self._project)
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return Head(
            project=_read(row["body"], Project), revision=row["revision"], applied=row["applied"]
        )

    def apply(self, project: Project, *, expected: int | None, now: int, who: str) -> Head:
        """Register all documents of a project and move the head, in one transaction.

        Raises:
            Conflict: the head is no longer at revision `expected` (None: no head yet).
        """
        body = dump(project)
        revision = 0 if expected is None else expected + 1
        try:
            with self._engine.begin() as connection:
                self._register(connection, [*project.views, *project.services], now)
                if expected is None:
                    connection.execute(
                        sa.insert(sql.HEADS).values(
                            project=self._project, revision=revision, body=body, applied=now
                        )
                    )
                else:
                    self._must_move(
                        connection.execute(
                            sa.update(sql.HEADS)
                            .where(
                                sql.HEADS.c.project == self._project,
                                sql.HEADS.c.revision == expected,
                            )
                            .values(revision=revision, body=body, applied=now)
                        ),
                        "apply",
                    )
                self._note(connection, now, who, "apply", f"revision {revision}")
        except IntegrityError as error:
            raise Conflict(_lost("apply")) from error
        return Head(project=project, revision=revision, applied=now)

    def _register(
        self, connection: sa.Connection, documents: Sequence[View | Service], now: int
    ) -> None:
        for document in documents:
            kind = "view" if isinstance(document, View) else "service"
            key = {"project": self._project, "kind": kind, "id": document.id}
            there = sa.select(sql.DOCUMENTS.c.id).filter_by(**key)
            if connection.execute(there).first() is None:
                values = {**key, "name": document.name, "body": dump(document), "created": now}
                connection.execute(sa.insert(sql.DOCUMENTS).values(values))

    def versions(self, view: str) -> tuple[View, ...]:
        """Give every registered version of a view, oldest first."""
        query = (
            sa.select(sql.DOCUMENTS.c.body)
            .where(
                sql.DOCUMENTS.c.project == self._project,
                sql.DOCUMENTS.c.kind == "view",
                sql.DOCUMENTS.c.name == view,
            )
            .order_by(sql.DOCUMENTS.c.created, sql.DOCUMENTS.c.id)
        )
        with self._engine.connect() as connection:
            return tuple(_read(body, View) for body in connection.scalars(query))

    def release(self, number: int) -> Release:
        """Give a release by number.

        Raises:
            NotFound: there is none of that number.
        """
        query = sa.select(sql.RELEASES.c.body).where(
            sql.RELEASES.c.project == self._project, sql.RELEASES.c.number == number
        )
        with self._engine.connect() as connection:
            body = connection.scalar(query)
        if body is None:
            raise NotFound(
                f"release {number}: there is no such release of {self._project}; "
                "run `featurestore promote` to make one"
            )
        return _read(body, Release)

    def next_release(self) -> int:
        """Give the number a new release would get."""
        query = sa.select(sa.func.max(sql.RELEASES.c.number)).where(
            sql.RELEASES.c.project == self._project
        )
        with self._engine.connect() as connection:
            return (connection.scalar(query) or 0) + 1

    def aliases(self) -> dict[str, int]:
        """Give every alias with the number of its release."""
        query = sa.select(sql.ALIASES.c.name, sql.ALIASES.c.number).where(
            sql.ALIASES.c.project == self._project
        )
        with self._engine.connect() as connection:
            return {row.name: row.number for row in connection.execute(query)}

    def alias(self, name: str) -> Release:
        """Give the release an alias names.

        Raises:
            NotFound: the alias does not exist.
        """
        known = self.aliases()
        if name not in known:
            raise NotFound(
                f"{name}: no alias has this name{suggest(name, known)}; "
                "run `featurestore promote` first"
            )
        return self.release(known[name])

    def promote(
        self, release: Release, alias: str, *, expected: int | None, now: int, who: str
    ) -> None:
        """Write a new release and move an alias to it, in one transaction.

        Raises:
            Conflict: the number is taken, or the alias is no longer at `expected`.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.insert(sql.RELEASES).values(
                        project=self._project,
                        number=release.number,
                        body=dump(release),
                        created=now,
                    )
                )
                values = {"number": release.number, "moved": now}
                if expected is None:
                    key = {"project": self._project, "name": alias}
                    connection.execute(sa.insert(sql.ALIASES).values(**key, **values))
                else:
                    mine = (sql.ALIASES.c.project == self._project, sql.ALIASES.c.name == alias)
                    moved = sa.update(sql.ALIASES).where(*mine, sql.ALIASES.c.number == expected)
                    self._must_move(connection.execute(moved.values(**values)), "promote")
                self._note(connection, now, who, "promote", f"{alias} → release {release.number}")
        except IntegrityError as error:
            raise Conflict(_lost("promote")) from error

    def _must_move(self, result: sa.CursorResult[tuple[object, ...]], action: str) -> None:
        if result.rowcount != 1:
            raise Conflict(_lost(action))

    def _note(
        self, connection: sa.Connection, now: int, who: str, action: str, detail: str
    ) -> None:
        connection.execute(
            sa.insert(sql.AUDIT).values(
                project=self._project, at=now, who=who, action=action, detail=detail
            )
        )


def _read(body: str, kind: type[T]) -> T:
    try:
        return load(body, kind)
    except (ValueError, RecursionError) as error:
        raise CorruptData(
            f"registry: a stored document is not as it was written: {error}; restore the "
            "database, or apply with the release that wrote it"
        ) from error


def _lost(action: str) -> str:
    return f"{action}: somebody else did so first and nothing was written; plan and {action} again"
