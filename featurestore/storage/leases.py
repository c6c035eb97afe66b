"""Leases: names that one owner holds at a time, until they expire or the holder is dead."""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from featurestore.errors import Conflict
from featurestore.model.time import show
from featurestore.storage import sql
from featurestore.storage.process import is_dead

_LEASES = sql.LEASES.c


class Leases:
    """The leases of one project."""

    def __init__(self, engine: sa.Engine, project: str) -> None:
        self._engine = engine
        self._project = project

    def lease(
        self, name: str, owner: str, *, now: int, until: int, process: str, note: str
    ) -> None:
        """Take or renew a lease; one that expired, or whose holder is dead, is taken over.

        `process` is the taker's `storage.process.this_process()`, `note` what it is about, for the
        people it keeps waiting.

        Raises:
            Conflict: another owner holds it.
        """
        terms = {"owner": owner, "expires": until, "process": process, "note": note}
        mine = (_LEASES.project == self._project, _LEASES.name == name)
        free = sa.or_(_LEASES.owner == owner, _LEASES.expires < now)
        if self._take(terms, *mine, free):
            return
        with self._engine.connect() as connection:
            holder = connection.execute(sa.select(sql.LEASES).where(*mine)).mappings().first()
        if holder is None:
            key = {"project": self._project, "name": name}
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(sql.LEASES).values(**key, **terms))
            except IntegrityError as error:
                raise Conflict(
                    f"{name}: somebody else took it at the same moment; wait for it to end and run "
                    "it again"
                ) from error
            return
        dead = (_LEASES.owner == holder["owner"], _LEASES.process == holder["process"])
        if not is_dead(holder["process"]) or not self._take(terms, *mine, *dead):
            raise Conflict(
                f"{name}: held by {holder['note'] or 'another run'} (until "
                f"{show(holder['expires'])}); wait for it to end, or until its lease expires if "
                "its machine died"
            )

    def _take(self, terms: Mapping[str, object], *matching: sa.ColumnElement[bool]) -> bool:
        with self._engine.begin() as connection:
            taken = connection.execute(sa.update(sql.LEASES).where(*matching).values(**terms))
        return bool(taken.rowcount)

    def is_leased(self, name: str, *, now: int) -> bool:
        """Say whether somebody who may be alive holds a lease."""
        mine = (_LEASES.project == self._project, _LEASES.name == name, _LEASES.expires >= now)
        with self._engine.connect() as connection:
            holder = connection.execute(sa.select(_LEASES.process).where(*mine)).scalar()
        return holder is not None and not is_dead(holder)

    def release_lease(self, name: str, owner: str) -> None:
        """Give a lease back, if it is still this owner's."""
        with self._engine.begin() as connection:
            connection.execute(
                sa.delete(sql.LEASES).where(
                    _LEASES.project == self._project,
                    _LEASES.name == name,
                    _LEASES.owner == owner,
                )
            )
