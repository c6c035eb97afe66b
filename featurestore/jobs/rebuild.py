"""Rebuild: bring back what Redis lost, from the offline tables and the registry."""

from dataclasses import dataclass

from featurestore.jobs.online import follow_alias
from featurestore.jobs.publish import load_again
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, dump


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild wrote: rows per version and table, and the aliases with their releases."""

    rows: dict[str, int]
    aliases: dict[str, int]


def rebuild_online(workspace: Workspace) -> Rebuilt:
    """Load every table that was not collected into Redis again, then the releases and aliases.

    Newest still wins, so it may run beside serving, and any number of times; each table is held by
    its lease, since a row that a run takes back meanwhile must not be written again. What an alias
    names comes first.

    Raises:
        Conflict: a run is writing to one of the tables; what was written stays.
        Unavailable: Redis cannot be reached; what was written stays.
    """
    releases, ledger = workspace.releases, workspace.ledger
    versions = {view.data_id: view for view in workspace.registry.all_versions().values()}
    released = map(releases.release, sorted(set(releases.aliases().values())))
    live = [one for release in released for one in release.views if one.table is not None]
    other = [
        LiveView(view=versions[table.data_id], table=table)
        for table in ledger.tables()
        if ledger.covered(table.id)
    ]
    rows: dict[str, int] = {}
    done = set[str]()
    for one in (*live, *other):
        if one.table is not None and one.table.id not in done:
            done.add(one.table.id)
            name = (
                one.view.version
                if not one.table.generation
                else (f"{one.view.version}.{one.table.generation}")
            )
            rows[name] = load_again(workspace, one)
    for number in releases.releases():
        workspace.online().put_release(number, dump(releases.release(number)))
    return Rebuilt(
        rows=rows, aliases={name: follow_alias(workspace, name) for name in releases.aliases()}
    )
