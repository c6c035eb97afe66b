"""Rebuild: bring back what Redis lost, from the offline tables and the registry."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from featurestore.errors import Conflict
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
    """Load every table that was not collected into Redis again, and all releases and aliases.

    What an alias answers from comes first, then the aliases, then what stands beside. Newest still
    wins, so it may run beside serving, and any number of times; each table is held by its lease,
    since a row that a run takes back meanwhile must not be written again.

    Raises:
        Conflict: a run is writing to some of the tables; the others, and the aliases, are there.
        Unavailable: Redis cannot be reached; what was written stays.
    """
    releases, ledger = workspace.releases, workspace.ledger
    versions = {view.data_id: view for view in workspace.registry.all_versions().values()}
    named = map(releases.release, sorted(set(releases.aliases().values())))
    live = {one.table: one for release in named for one in release.views if one.table is not None}
    other = {
        table: LiveView(view=versions[table.data_id], table=table)
        for table in ledger.tables()
        if table not in live and ledger.covered(table.id)
    }
    busy: list[Conflict] = []
    rows = dict(_loaded(workspace, live.values(), busy))
    for number in releases.releases():
        workspace.online().put_release(number, dump(releases.release(number)))
    aliases = {name: follow_alias(workspace, name) for name in releases.aliases()}
    rows |= _loaded(workspace, other.values(), busy)
    if busy:
        raise Conflict(
            f"rebuild-online: the aliases and {len(rows)} tables are there, but not all: "
            f"{'; '.join(map(str, busy))}"
        )
    return Rebuilt(rows=rows, aliases=aliases)


def _loaded(
    workspace: Workspace, views: Iterable[LiveView], busy: list[Conflict]
) -> Iterator[tuple[str, int]]:
    """Load tables; gives what each is called, and its rows."""
    for one in views:
        again = f".{one.table.generation}" if one.table and one.table.generation else ""
        try:
            yield f"{one.view.version}{again}", load_again(workspace, one)
        except Conflict as error:
            busy.append(error)
