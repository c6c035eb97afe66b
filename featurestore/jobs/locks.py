"""Registered locks: they keep alive, and answerable, what a model was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from featurestore.errors import (
    CorruptData,
    FeatureStoreError,
    InvalidRequest,
    NotFound,
    NotMaterialized,
)
from featurestore.jobs.backfill import fill, is_damaged
from featurestore.jobs.facts import committed, facts
from featurestore.jobs.leases import arranging
from featurestore.jobs.publish import lasting, refresh
from featurestore.jobs.run import Report, new_table, silent
from featurestore.jobs.tables import ALWAYS, DATA
from featurestore.jobs.verify import verify_stored
from featurestore.jobs.workspace import Workspace
from featurestore.model import pinned
from featurestore.model.catalog import Catalog
from featurestore.model.documents import LiveView, Table, View
from featurestore.model.facts import Registered
from featurestore.model.lock import Lock, LockedView
from featurestore.model.needs import answered_by, where_it_lies
from featurestore.model.pinned import admit, unlike
from featurestore.model.time import second, show
from featurestore.serving.message.locks import LOCK_BYTES
from featurestore.storage.ledger import Verification

_SHORTEST = 4
_LONGEST = 200
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A lock that is registered now.

    `warmed` are versions that were computed or loaded for it; `collected` are stored versions whose
    training data are gone, so that the lock can be served but its training set not rebuilt.
    """

    registered: Registered
    warmed: tuple[str, ...]
    collected: tuple[str, ...]


def register(
    workspace: Workspace,
    lock: Lock,
    *,
    owner: str,
    expires: int | None = None,
    report: Report | None = None,
) -> Kept:
    """Register a lock, and make every alias answer it; again, it renews owner and expiry.

    What the aliases' live views do not hold is kept warm beside them: its table is computed if it
    is gone, loaded if its ttl needs rows that Redis let go of, verified, and put into a release of
    the same live views. Expires at UTC microseconds, or never.

    Raises:
        InvalidRequest: a draft, a lock of another project, one that contradicts itself or the
            registry or that no server takes, no owner, or an expiry that has passed.
        NotFound: the lock names a version that was never registered here.
        Conflict: another process is arranging releases; run it again.
        SourceError, Unavailable, CorruptData: as the stores say. Where the lock is registered
            already the message says so, with the aliases that do not answer it yet.
    """
    _refuse(workspace, lock, owner, expires)
    now = workspace.clock()
    registered = Registered(id=lock.id, lock=lock, owner=owner, registered=now, expires=expires)
    with arranging(workspace, f"register lock {lock.id[:12]}") as turn:
        workspace.releases.register_lock(
            registered, now=now, who=workspace.who, commit=workspace.commit, turn=turn
        )
    warmed = _answered(workspace, registered, report or silent)
    collected = [f"{one.name}@{one.id[:12]}" for one in lock.views if _is_gone(workspace, one)]
    return Kept(
        registered=registered, warmed=tuple(dict.fromkeys(warmed)), collected=tuple(collected)
    )


def _is_gone(workspace: Workspace, one: LockedView) -> bool:
    """Say whether the data that a lock names of a version were collected or vacuumed."""
    named = DATA.fullmatch(one.data or "")
    if named is None:
        return False
    table = next((t for t in workspace.ledger.tables() if t.id == named["table"]), None)
    if table is None:
        return True
    view = workspace.registry.all_versions()[one.id]
    try:
        workspace.offline.parts(
            view,
            table,
            version=int(named["version"]),
            events=ALWAYS,
            checksums=workspace.ledger.checksums(table.id),
        )
    except (CorruptData, NotMaterialized):
        return True
    return False


def retire(workspace: Workspace, lock_id: str) -> Registered:
    """Let go of a lock, by its id or the start of it; `collect` may then remove its data.

    Raises:
        NotFound: no registered lock has this id.
        InvalidRequest: several have, it is shorter than four digits, or was retired already.
    """
    if len(lock_id) < _SHORTEST:
        raise InvalidRequest(f"lock {lock_id!r}: give at least {_SHORTEST} digits of its id")
    found = [one for one in workspace.releases.locks() if one.id.startswith(lock_id)]
    alive = [one for one in found if one.retired is None]
    if len(alive) > 1:
        raise InvalidRequest(f"lock {lock_id}: names {len(alive)} locks; give more of its id")
    if not alive and found:
        at = max(one.retired for one in found if one.retired is not None)
        raise InvalidRequest(
            f"lock {found[0].id[:12]}: was retired {second(at)} already; to keep its data again, "
            "register it again"
        )
    if not alive:
        raise NotFound(
            f"lock {lock_id}: no such lock is registered; `featurestore lock list` shows them"
        )
    workspace.releases.retire_lock(
        alive[0].id, now=workspace.clock(), who=workspace.who, commit=workspace.commit
    )
    return alive[0]


def _answered(workspace: Workspace, registered: Registered, report: Report) -> list[str]:
    """Make every alias answer a lock; gives the versions that were made warm for it.

    What keeps one alias from it keeps no other.
    """
    warmed: list[str] = []
    failed: dict[str, FeatureStoreError] = {}
    for alias in workspace.releases.aliases():
        try:
            warmed += _warm(workspace, registered, alias, report)
            refresh(workspace, alias)
        except FeatureStoreError as error:
            failed[alias] = error
    if failed:
        told = "; ".join(dict.fromkeys(map(str, failed.values())))
        raise type(next(iter(failed.values())))(
            f"lock {registered.id[:12]}: is registered, but not answered yet by "
            f"{', '.join(failed)}: {told}; register it again"
        )
    return warmed


def _warm(workspace: Workspace, registered: Registered, alias: str, report: Report) -> list[str]:
    """Make tables that answer a lock where an alias's live views do not; gives the versions."""
    known = facts(workspace)
    warmed = []
    current = known.releases[known.aliases[alias]].views
    for locked, one in answered_by(known, registered.lock, current):
        if one is not None and any(one.table == view.table for view in current):
            warmed += [one.view.version] if lasting(workspace, one) else []
            continue
        view = where_it_lies(known, one.view if one is not None else known.versions[locked.id])
        table = _sound(workspace, view, one.table if one is not None else None)
        made = fill(workspace, view, table, alias, report)
        table = workspace.table(view) if table is None else table
        ready = LiveView(view=view, table=table)
        loaded = lasting(workspace, replace(ready, view=replace(view, ttl=locked.ttl)))
        warmed += [view.version] if made or loaded else []
        verify_stored(workspace, ready)
    return warmed


def _sound(workspace: Workspace, view: View, table: Table | None) -> Table | None:
    """Give a table that can be written to: beside one that cannot be read, a new one.

    That is put on record, so that nobody is answered from the damaged one where there is another.
    """
    if table is None or not is_damaged(workspace, view, table):
        return table
    now = workspace.clock()
    workspace.ledger.add_verification(
        Verification(
            table_id=table.id,
            version=view.id,
            delta_version=committed(workspace, table),
            watermark=now,
            checked=0,
            mismatches=1,
            at=now,
            who=workspace.who,
        )
    )
    return new_table(workspace, view, now)


def _refuse(workspace: Workspace, lock: Lock, owner: str, expires: int | None) -> None:
    admit(lock, project=workspace.config.project)
    if not owner.strip() or not owner.isprintable() or len(owner.encode()) > _LONGEST:
        raise InvalidRequest(
            f"lock.owner: {owner[:_SHOWN]!r} is no name of at most {_LONGEST} printable bytes; "
            "name the person or team to ask before it is let go"
        )
    size = len(lock.to_json().encode())
    if size > LOCK_BYTES:
        raise InvalidRequest(
            f"lock: has {size:,} bytes, and no server takes more than {LOCK_BYTES:,}; lock fewer "
            "features"
        )
    now = workspace.clock()
    if expires is not None and expires <= now:
        raise InvalidRequest(
            f"lock: expires {show(expires)}, which has passed (it is {show(now)}); give a later day"
        )
    _refuse_unresolved(lock, workspace.registry.all_versions())


def _refuse_unresolved(lock: Lock, versions: Mapping[str, View]) -> None:
    """Refuse a lock that is not about versions of here, or that no server could answer."""
    for at, one in enumerate(lock.views):
        if one.id not in versions or versions[one.id].name != one.name:
            raise NotFound(
                f"lock.views[{at}]: {one.name}@{one.id[:12]} was never registered here; register "
                "the lock where its training set was made"
            )
        wrong = unlike(one, versions[one.id])
        if wrong is not None:
            raise InvalidRequest(
                f"lock.views[{at}].{wrong}: is not that of {versions[one.id].version}; the file "
                "was changed since it was written: use the original"
            )
        data = DATA.fullmatch(one.data or "")
        of = {view.data_id[:16] for view in versions.values() if view.name == one.name}
        if one.data is not None and (
            one.kind != "batch" or data is None or data["table"][:16] not in of
        ):
            raise InvalidRequest(
                f"lock.views[{at}].data: {one.data[:_SHOWN]!r} names no data of {one.name}; the "
                "file was changed since it was written: use the original"
            )
    for at, output in enumerate(lock.outputs):
        view = versions.get(output.version)
        ids = {feature.name: feature.id for feature in view.features} if view else {}
        if ids.get(output.feature) != output.feature_id:
            raise InvalidRequest(
                f"lock.outputs[{at}].feature_id: is not the id of {output.view}:{output.feature} "
                "in its version; the file was changed since it was written: use the original"
            )
    for at, lookup in enumerate(lock.lookups):
        view = versions.get(lookup.version)
        if not set(lookup.features) <= {one.id for one in (view.features if view else ())}:
            raise InvalidRequest(
                f"lock.lookups[{at}].features: are not all of its version; the file was changed "
                "since it was written: use the original"
            )
    pinned.locked(lock, Catalog(others=tuple(versions[one.id] for one in lock.views)))
