"""What is published: releases, the aliases that name them, their moves, and registered locks.

A release is written once; an alias moves by compare-and-set in the transaction that writes the
release, so of two who publish at once one wins and the other gets a `Conflict`.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotFound
from featurestore.model.documents import Release, dump
from featurestore.model.facts import Action, Move, Registered
from featurestore.model.lock import Lock
from featurestore.model.names import suggest
from featurestore.storage import sql
from featurestore.storage.documents import Author, Turn, lost, misfit, must_move, read


class Releases:
    """All releases, aliases and registered locks of one project."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine = engine
        self._project = project

    def release(self, number: int) -> Release:
        """Give a release by number, as it was published, also when it was collected.

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
                "`featurestore log` lists them; what the registry lost, a backup of it brings back"
            )
        release = read(body, Release)
        if (release.project, release.number) != (self._project, number):
            raise misfit(f"release {number} of {self._project}")
        return release

    def releases(self) -> tuple[int, ...]:
        """Give the numbers of all releases that were not collected, oldest first."""
        table = sql.RELEASES.c
        query = sa.select(table.number).where(
            table.project == self._project, table.collected.is_(None)
        )
        with self._engine.connect() as connection:
            return tuple(connection.scalars(query.order_by(table.number)))

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

    def moves(self) -> tuple[Move, ...]:
        """Give every move of every alias, oldest first."""
        table = sql.MOVES.c
        query = (
            sa.select(table.alias, table.number, table.previous, table.action, table.at)
            .where(table.project == self._project)
            .order_by(table.id)
        )
        with self._engine.connect() as connection:
            return tuple(Move(**row) for row in connection.execute(query).mappings())

    def publish(
        self,
        release: Release,
        alias: str,
        *,
        expected: int | None,
        action: Action,
        now: int,
        who: str,
        commit: str | None = None,
        turn: Turn | None = None,
    ) -> None:
        """Write a new release and move an alias to it, in one transaction, while it is our turn.

        A later rollback goes back to `expected` after a "promote"; after a "warm" (the same live
        views) or a "rollback", to where it would have gone from the release that is repeated.

        Raises:
            Conflict: the number is taken, the alias is no longer at `expected`, the turn is over,
                or a table of the release was collected.
        """
        try:
            with self._engine.begin() as connection:
                if turn is not None:
                    turn.must_hold(connection, self._project)
                self._refuse_collected(connection, release, action)
                self._write(connection, release, now)
                self._move(
                    connection, alias, expected, {"number": release.number, "moved": now}, action
                )
                repeated = {"promote": None, "warm": expected, "rollback": release.restores}[action]
                previous = (
                    expected if action == "promote" else self._before(connection, alias, repeated)
                )
                move = {"number": release.number, "previous": previous, "action": action, "at": now}
                connection.execute(
                    sa.insert(sql.MOVES).values(project=self._project, alias=alias, **move)
                )
                detail = f"{alias} → release {release.number}"
                if release.restores is not None:
                    detail += f", restores {release.restores}"
                self._author(now, who, commit).note(connection, action, detail)
        except IntegrityError as error:
            raise Conflict(lost(action)) from error

    def _refuse_collected(
        self, connection: sa.Connection, release: Release, action: Action
    ) -> None:
        """Refuse a release that would answer from a table that was given up meanwhile."""
        columns = sql.TABLES.c
        gone = sa.select(columns.data_id, columns.generation).where(
            columns.project == self._project, columns.collected.is_not(None)
        )
        collected = {(row.data_id, row.generation) for row in connection.execute(gone)}
        for one in (*release.views, *release.warm):
            table = one.table
            if table is not None and (table.data_id, table.generation) in collected:
                raise Conflict(
                    f"{action}: table {table.id} of {one.view.version} was collected meanwhile; "
                    "nothing was written: run it again"
                )

    def collect_releases(
        self, numbers: Sequence[int], *, now: int, who: str, commit: str | None = None
    ) -> None:
        """Mark releases as collected; their documents stay.

        Raises:
            Conflict: an alias names one of them; nothing was written.
        """
        table = sql.RELEASES.c
        chosen = (table.project == self._project, table.number.in_(numbers))
        named = sa.select(sql.ALIASES).where(
            sql.ALIASES.c.project == self._project, sql.ALIASES.c.number.in_(numbers)
        )
        with self._engine.begin() as connection:
            marked = connection.execute(
                sa.update(sql.RELEASES)
                .where(*chosen, table.collected.is_(None))
                .values(collected=now)
            )
            held = connection.execute(named).first()
            if held is not None:
                raise Conflict(
                    f"collect: {held.name} names release {held.number}; collect again without it"
                )
            if marked.rowcount:
                listed = ", ".join(map(str, sorted(numbers)))
                self._author(now, who, commit).note(connection, "collect", f"releases {listed}")

    def register_lock(
        self,
        registered: Registered,
        *,
        now: int,
        who: str,
        commit: str | None = None,
        turn: Turn | None = None,
    ) -> None:
        """Register a lock; a second time gives it its new owner and expiry, and un-retires it.

        Raises:
            InvalidRequest: the lock is another project's, or has another id.
            Conflict: somebody else registered it at the same moment, or the turn is over.
        """
        lock = registered.lock
        if lock.project != self._project or lock.id != registered.id:
            raise InvalidRequest(
                f"lock {registered.id[:12]}: it is lock {lock.id[:12]} of project "
                f"'{lock.project}', this is '{self._project}'; register it where it was made"
            )
        table = sql.LOCKS.c
        terms = {"owner": registered.owner, "expires": registered.expires, "retired": None}
        key = {"project": self._project, "id": registered.id}
        values = {**key, **terms, "body": dump(lock), "registered": registered.registered}
        again = sa.update(sql.LOCKS).where(
            table.project == self._project, table.id == registered.id
        )
        try:
            with self._engine.begin() as connection:
                if turn is not None:
                    turn.must_hold(connection, self._project)
                if not connection.execute(again.values(**terms, body=dump(lock))).rowcount:
                    connection.execute(sa.insert(sql.LOCKS).values(values))
                detail = f"register {registered.id[:12]} of {registered.owner}"
                self._author(now, who, commit).note(connection, "lock", detail)
        except IntegrityError as error:
            raise Conflict(
                f"lock {registered.id[:12]}: somebody else registered it at the same moment; "
                "register it again"
            ) from error

    def retire_lock(self, lock_id: str, *, now: int, who: str, commit: str | None = None) -> None:
        """Let go of a lock; one that is retired already stays so.

        Raises:
            NotFound: no registered lock has this id.
        """
        table = sql.LOCKS.c
        mine = (table.project == self._project, table.id == lock_id)
        with self._engine.begin() as connection:
            left = sa.update(sql.LOCKS).where(*mine, table.retired.is_(None)).values(retired=now)
            if connection.execute(left).rowcount:
                self._author(now, who, commit).note(connection, "lock", f"retire {lock_id[:12]}")
                return
            known = connection.scalars(sa.select(table.id).where(table.project == self._project))
            ids = set(known)
        if lock_id not in ids:
            raise NotFound(
                f"lock {lock_id[:12]}: no such lock is registered{suggest(lock_id, ids)}; "
                "run `featurestore lock list`"
            )

    def locks(self) -> tuple[Registered, ...]:
        """Give every lock that was ever registered, also retired ones, oldest first.

        Raises:
            CorruptData: a stored lock is not what was registered.
        """
        table = sql.LOCKS.c
        query = (
            sa.select(sql.LOCKS)
            .where(table.project == self._project)
            .order_by(table.registered, table.id)
        )
        with self._engine.connect() as connection:
            return tuple(_registered(row) for row in connection.execute(query).mappings())

    def _author(self, now: int, who: str, commit: str | None) -> Author:
        return Author(project=self._project, now=now, who=who, commit=commit)

    def _write(self, connection: sa.Connection, release: Release, now: int) -> None:
        values = {"number": release.number, "body": dump(release), "created": now}
        connection.execute(sa.insert(sql.RELEASES).values(project=self._project, **values))

    def _move(
        self,
        connection: sa.Connection,
        alias: str,
        expected: int | None,
        values: Mapping[str, int],
        action: Action,
    ) -> None:
        if expected is None:
            key = {"project": self._project, "name": alias}
            connection.execute(sa.insert(sql.ALIASES).values(**key, **values))
            return
        mine = (sql.ALIASES.c.project == self._project, sql.ALIASES.c.name == alias)
        moved = sa.update(sql.ALIASES).where(*mine, sql.ALIASES.c.number == expected)
        must_move(connection.execute(moved.values(**values)), action)

    def _before(self, connection: sa.Connection, alias: str, number: int | None) -> int | None:
        """Give where a rollback would go from a release that an alias was last moved to."""
        table = sql.MOVES.c
        query = (
            sa.select(table.previous)
            .where(table.project == self._project, table.alias == alias, table.number == number)
            .order_by(table.id.desc())
            .limit(1)
        )
        previous: int | None = connection.scalar(query)
        return previous


def _registered(row: sa.RowMapping) -> Registered:
    lock = read(row["body"], Lock)
    if lock.id != row["id"]:
        raise CorruptData(
            f"registry: lock {row['id'][:12]} no longer matches its content; register it again "
            "from its file"
        )
    return Registered(
        id=row["id"],
        lock=lock,
        owner=row["owner"],
        registered=row["registered"],
        expires=row["expires"],
        retired=row["retired"],
    )
