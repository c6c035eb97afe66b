"""Rebuild: bring back what Redis lost, from the offline tables and the registry."""

import secrets
from dataclasses import dataclass

from featurestore.jobs.materialize import leased
from featurestore.jobs.online import follow_alias, load_online
from featurestore.jobs.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a rebuild wrote: rows per version, and the aliases restored with their releases."""

    rows: dict[str, int]
    aliases: dict[str, int]


def rebuild_online(workspace: Workspace) -> Rebuilt:
    """Load the tables of every alias's release into Redis again, then the releases and aliases.

    Newest still wins, so it may run beside serving, and any number of times; each table is held by
    its lease, since a row that a run takes back meanwhile must not be written again.

    Raises:
        Conflict: a run is writing to one of the tables; what was written stays.
        Unavailable: Redis cannot be reached; what was written stays.
    """
    releases = workspace.releases
    aliases = releases.aliases()
    rows: dict[str, int] = {}
    for number in sorted(set(aliases.values())):
        release = releases.release(number)
        for live in release.views:
            if live.table is not None and live.view.version not in rows:
                why = f"rebuild {live.view.name}"
                with leased(workspace, live.table, secrets.token_hex(16), why=why):
                    rows[live.view.version] = load_online(workspace, live.view, live.table)
    return Rebuilt(rows=rows, aliases={name: follow_alias(workspace, name) for name in aliases})
