"""The registry's documents: what is applied, every version there ever was, and the audit, in SQL.

A document is written once; a head moves by compare-and-set inside a transaction, so two writers
give both effects or one `Conflict`, never a mixture.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict, InvalidRequest, NotFound
from featurestore.model.documents import Project, Service, View, dump
from featurestore.model.identity import spelled
from featurestore.model.names import suggest
from featurestore.storage import sql
from featurestore.storage.documents import Author, Entry, lost, misfit, must_move, read

_DIGEST = re.compile(r"[0-9a-f]{4,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is applied: the project's document and the revision that compare-and-set needs."""

    project: Project
    revision: int
    applied: int


class Registry:
    """All documents of one project, and its audit; releases and locks are in `Releases`.

    A view comes with every spelling that was recorded of its expressions.
    """

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
            applied = read(row["body"], Project)
            views = self._spelled(connection, applied.views)
        project = replace(applied, views=views)
        return Head(project=project, revision=row["revision"], applied=row["applied"])

    def apply(
        self,
        project: Project,
        *,
        expected: int | None,
        now: int,
        who: str,
        commit: str | None = None,
    ) -> Head:
        """Register all documents of a project and move the head, in one transaction.

        Raises:
            Conflict: the head is no longer at revision `expected` (None: no head yet).
        """
        revision = 0 if expected is None else expected + 1
        values = {"revision": revision, "body": dump(project), "applied": now}
        try:
            with self._engine.begin() as connection:
                self._register(connection, [*project.views, *project.services], now)
                if expected is None:
                    first = sa.insert(sql.HEADS).values(project=self._project, **values)
                    connection.execute(first)
                else:
                    mine = (sql.HEADS.c.project == self._project, sql.HEADS.c.revision == expected)
                    moved = sa.update(sql.HEADS).where(*mine).values(**values)
                    must_move(connection.execute(moved), "apply")
                self._author(now, who, commit).note(connection, "apply", f"revision {revision}")
        except IntegrityError as error:
            raise Conflict(lost("apply")) from error
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
        with self._engine.connect() as connection:
            return self._views(connection, sql.DOCUMENTS.c.name == view)

    def all_versions(self) -> dict[str, View]:
        """Give every registered version of every view by its full id, oldest first."""
        with self._engine.connect() as connection:
            return {view.id: view for view in self._views(connection)}

    def version(self, view: str, digest: str) -> View:
        """Give the registered version of a view whose id starts with a digest.

        Raises:
            NotFound: none does.
            InvalidRequest: several do, or the digest is no 4 to 64 hex digits.
        """
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest(
                f"{view}@{digest}: write 4 or more of the hex digits of a version's id"
            )
        known = self.versions(view)
        found = [one for one in known if one.id.startswith(digest)]
        if len(found) > 1:
            raise InvalidRequest(f"{view}@{digest}: could be {_listed(found)}; write more digits")
        if found:
            return found[0]
        if known:
            raise NotFound(
                f"{view}@{digest}: no version has this id; registered are {_listed(known)}"
            )
        raise NotFound(
            f"{view}: no registered view has this name{suggest(view, self._names())}; "
            "run `featurestore apply` to register one"
        )

    def registered(self, view: View) -> int:
        """Give when a version was registered, UTC microseconds.

        Raises:
            NotFound: it never was.
        """
        table = sql.DOCUMENTS.c
        mine = (table.project == self._project, table.kind == "view", table.id == view.id)
        with self._engine.connect() as connection:
            created: int | None = connection.scalar(sa.select(table.created).where(*mine))
        if created is None:
            raise NotFound(f"{view.version}: was never registered; run `featurestore apply`")
        return created

    def add_spelling(
        self,
        view: View,
        *,
        dialect: str,
        evidence: str,
        now: int,
        who: str,
        commit: str | None = None,
    ) -> None:
        """Record the bytes of a registered version's expressions in one more dialect.

        `view` has the version's id and, for each of its expressions, a spelling of the dialect;
        `evidence` says why the two mean the same. What was recorded first stays.

        Raises:
            NotFound: no version has this id.
            InvalidRequest: an expression has no spelling of the dialect.
        """
        known = self.version(view.name, view.id)
        lacking = _lacking(spelled(known, [view]), dialect)
        if lacking:
            raise InvalidRequest(
                f"{view.version}: {', '.join(lacking)} has no bytes of {dialect}; write all of its "
                "expressions in that dialect"
            )
        if not _lacking(known, dialect):
            return
        values = {
            "project": self._project,
            "version": view.id,
            "dialect": dialect,
            "body": dump(spelled(known, [view])),
            "evidence": evidence,
            "at": now,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(sql.SPELLINGS).values(values))
                author = self._author(now, who, commit)
                author.note(connection, "spell", f"{view.version} in {dialect}: {evidence}")
        except IntegrityError:
            return  # another process recorded it in between

    def audit(self) -> tuple[Entry, ...]:
        """Give every line of the audit, oldest first."""
        table = sql.AUDIT.c
        query = (
            sa.select(table.at, table.who, table.commit, table.action, table.detail)
            .where(table.project == self._project)
            .order_by(table.id)
        )
        with self._engine.connect() as connection:
            return tuple(Entry(**row) for row in connection.execute(query).mappings())

    def note(
        self, action: str, detail: str, *, now: int, who: str, commit: str | None = None
    ) -> None:
        """Add a line to the audit for something done outside of the registry."""
        with self._engine.begin() as connection:
            self._author(now, who, commit).note(connection, action, detail)

    def _author(self, now: int, who: str, commit: str | None) -> Author:
        return Author(project=self._project, now=now, who=who, commit=commit)

    def _views(
        self, connection: sa.Connection, *matching: sa.ColumnElement[bool]
    ) -> tuple[View, ...]:
        table = sql.DOCUMENTS.c
        query = (
            sa.select(table.id, table.body)
            .where(table.project == self._project, table.kind == "view", *matching)
            .order_by(table.created, table.id)
        )
        views = [_view(row.id, row.body) for row in connection.execute(query)]
        return self._spelled(connection, views)

    def _spelled(self, connection: sa.Connection, views: Iterable[View]) -> tuple[View, ...]:
        """Add to views what was recorded of them in other dialects."""
        copies = self._spellings(connection)
        return tuple(spelled(view, copies.get(view.id, ())) for view in views)

    def _spellings(self, connection: sa.Connection) -> Mapping[str, Sequence[View]]:
        table = sql.SPELLINGS.c
        query = (
            sa.select(table.version, table.body)
            .where(table.project == self._project)
            .order_by(table.at, table.dialect)
        )
        copies: dict[str, list[View]] = {}
        for row in connection.execute(query):
            copies.setdefault(row.version, []).append(_view(row.version, row.body))
        return copies

    def _names(self) -> set[str]:
        table = sql.DOCUMENTS.c
        query = sa.select(table.name).where(table.project == self._project, table.kind == "view")
        with self._engine.connect() as connection:
            return set(connection.scalars(query))


def _view(version: str, body: str) -> View:
    view = read(body, View)
    if view.id != version:
        raise misfit(f"{view.name}@{version[:12]}.id")
    return view


def _listed(versions: Sequence[View]) -> str:
    return ", ".join(version.version for version in versions)


def _lacking(view: View, dialect: str) -> list[str]:
    """Give the paths of expressions without a spelling of a dialect."""
    all_of = {f"features.{feature.name}": feature.expression for feature in view.features}
    if view.filter is not None:
        all_of["filter"] = view.filter
    return [
        path
        for path, expression in all_of.items()
        if dialect not in {one.dialect for one in expression.spellings}
    ]
