"""Rebuild: bring back what Redis lost, from the offline tables and the registry."""

from dataclasses import dataclass

from featurestore.jobs.online import load_online
from featurestore.jobs.promote import follow
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import dump


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild wrote: rows per version, and the aliases restored with their releases."""

    rows: dict[str, int]
    aliases: dict[str, int]


def rebuild_online(workspace: Workspace) -> Rebuilt:
    """Load the tables of every alias's release into Redis again, then the releases and aliases.

    Newest still wins, so it may run beside serving and materialization, and any number of times.

    Raises:
        Unavailable: Redis cannot be reached; what was written stays.
    """
    registry, online = workspace.registry, workspace.online()
    aliases = registry.aliases()
    rows: dict[str, int] = {}
    for number in sorted(set(aliases.values())):
        release = registry.release(number)
        for live in release.views:
            if live.table is not None and live.view.version not in rows:
                rows[live.view.version] = load_online(workspace, live.view, live.table)
        online.put_release(number, dump(release))
    for name in aliases:
        follow(workspace, name)
    return Rebuilt(rows=rows, aliases=aliases)
