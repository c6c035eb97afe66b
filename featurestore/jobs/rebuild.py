"""Rebuild: bring back what Redis lost, from the offline tables and the registry.

It is the explicit command that repairs: rows, releases and aliases that are damaged, or that look
newer than what the offline tables and SQL say, are replaced. What another registry of the same
project's name published is no damage, and refused (see `copies`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from featurestore.errors import CorruptData, FeatureStoreError
from featurestore.jobs.copies import copy_release, follow_alias, refuse_foreign
from featurestore.jobs.facts import facts
from featurestore.jobs.online import needed
from featurestore.jobs.publish import load_again, refresh, unanswered
from featurestore.jobs.run import going_on
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView
from featurestore.model.needs import Need


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild wrote: rows per version and table, and the aliases with their releases."""

    rows: dict[str, int]
    aliases: dict[str, int]


def rebuild_online(workspace: Workspace) -> Rebuilt:
    """Load every table that was not collected into Redis again, and all releases and aliases.

    What an alias answers from comes first, then the aliases, then what stands beside; in the end
    each alias carries again what its release had to leave out of a registered lock. It may run
    beside serving, and any number of times; each table is held by its lease, since a row that a run
    takes back meanwhile must not be written again. A table that cannot be loaded stops no other.

    Raises:
        CorruptData: some offline tables cannot be read; the others, and the aliases, are there.
        Conflict: a run is writing to some tables, with the same end; or another registry of this
            name published to this Redis, and nothing was written.
        Unavailable: Redis cannot be reached; what was written stays.
    """
    releases, ledger = workspace.releases, workspace.ledger
    for name, number in releases.aliases().items():
        refuse_foreign(workspace, name, number)
    need = needed(facts(workspace))
    versions = {view.data_id: view for view in workspace.registry.all_versions().values()}
    named = map(releases.release, sorted(set(releases.aliases().values())))
    live = {one.table: one for release in named for one in release.views if one.table is not None}
    other = {
        table: LiveView(view=versions[table.data_id], table=table)
        for table in ledger.tables()
        if table not in live and ledger.covered(table.id)
    }
    failed: list[FeatureStoreError] = []
    rows = dict(_loaded(workspace, live.values(), need, failed))
    for number in releases.releases():
        copy_release(workspace, releases.release(number))
    aliases = {name: follow_alias(workspace, name) for name in releases.aliases()}
    rows |= _loaded(workspace, other.values(), need, failed)
    for name, number in aliases.items():
        release = releases.release(number)
        if unanswered(facts(workspace), release.views, release.warm):
            with going_on(failed):
                aliases[name] = refresh(workspace, name).release.number
    if failed:
        kind = next((type(e) for e in failed if isinstance(e, CorruptData)), type(failed[0]))
        told = "; ".join(dict.fromkeys(map(str, failed)))
        raise kind(
            f"rebuild-online: the aliases and {len(rows)} tables are there, but not all: {told}"
        )
    return Rebuilt(rows=rows, aliases=aliases)


def _loaded(
    workspace: Workspace,
    views: Iterable[LiveView],
    need: Mapping[str, Need],
    failed: list[FeatureStoreError],
) -> Iterator[tuple[str, int]]:
    """Load tables; gives what each is called, and its rows."""
    for one in views:
        again = f".{one.table.generation}" if one.table and one.table.generation else ""
        with going_on(failed):
            yield f"{one.view.version}{again}", load_again(workspace, one, need)
