"""What is known of a project now, gathered from its stores: the input of every decision."""

from collections.abc import Iterator, Mapping, Sequence

from featurestore.errors import CorruptData, NotMaterialized
from featurestore.jobs.proof.standing import standing
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Release, Table, View
from featurestore.model.facts import Facts, Move
from featurestore.model.needs import Need, needs, recent, rejected
from featurestore.model.time import Interval


def facts(workspace: Workspace) -> Facts:
    """Gather the facts; nothing is computed and nothing written."""
    named, ledger = workspace.releases, workspace.ledger
    now, retention = workspace.clock(), workspace.config.retention
    aliases, moves = named.aliases(), named.moves()
    releases = {n: named.release(n) for n in recent(moves, aliases, now - retention)}
    head = workspace.registry.head()
    versions = workspace.registry.all_versions()
    found = standing(ledger.verifications(), ledger.runs(), versions)
    live = frozenset(_answered(moves, releases))
    proven = {one for one in live if not found.wrong(one[:2], one[2])}
    return Facts(
        now=now,
        retention=retention,
        head=head.project if head else None,
        aliases=aliases,
        moves=moves,
        releases=releases,
        locks=named.locks(),
        tables=ledger.tables(),
        versions=versions,
        written=ledger.written(),
        verified=found.passed | proven,
        failed=found.failed,
        passed=found.ever | {one[:2] for one in live},
        rejected=_rejected(workspace, moves),
    )


def _answered(
    moves: Sequence[Move], releases: Mapping[int, Release]
) -> Iterator[tuple[str, str, str]]:
    """Give the versions and tables that recent releases are of, with who named them."""
    for move in moves:
        release = releases.get(move.number)
        for one in release.views if release else ():
            yield one.view.id, one.table.id if one.table else "", move.alias


def newest_table(workspace: Workspace, view: View) -> Table | None:
    """Give the newest generation of a version's table that was not rejected, or None."""
    newest = workspace.table(view)
    if newest is None or not newest.generation:
        return newest
    return facts(workspace).newest(view.data_id)


def _rejected(workspace: Workspace, moves: Sequence[Move]) -> frozenset[Table]:
    """Give the tables that were rolled back from; old releases are read if there may be one."""
    if not any(table.generation for table in workspace.ledger.tables()):
        return frozenset()
    numbers = {move.number for move in moves}
    return rejected(moves, {number: workspace.releases.release(number) for number in numbers})


def coverage(workspace: Workspace) -> dict[str, tuple[Interval, ...]]:
    """Give the known-at intervals that each table holds, by table id."""
    return {t.id: workspace.ledger.covered(t.id) for t in workspace.ledger.tables()}


def need_of(workspace: Workspace, table: Table) -> Need | None:
    """Give who needs a table, if anybody does."""
    return next((n for n in needs(facts(workspace)) if n.table == table), None)


def serving_table(workspace: Workspace, view: View) -> Table | None:
    """Give the generation of a version's table that an alias serves, else the newest, or None."""
    newest = workspace.table(view)
    if newest is None or not newest.generation:
        return newest
    named = workspace.releases
    served = {
        one.table
        for number in set(named.aliases().values())
        for one in named.release(number).views
        if one.table is not None and one.table.data_id == view.data_id
    }
    order = sorted(served, key=lambda table: table.generation)
    return order[-1] if order else newest_table(workspace, view)


def sized(workspace: Workspace, view: View, table: Table) -> tuple[int, int] | tuple[None, None]:
    """Give a table's rows and bytes: none before its first run, None each if it cannot be read."""
    if not workspace.ledger.covered(table.id):
        return 0, 0
    try:
        return workspace.offline.size(view, table)
    except (CorruptData, NotMaterialized):
        return None, None


def committed(workspace: Workspace, table: Table) -> int:
    """Give the newest Delta version of a table that the ledger knows to be committed.

    Raises:
        NotMaterialized: there is none.
    """
    runs = workspace.ledger.runs(table.id)
    done = [run.delta_version for run in runs if run.state in ("committed", "served")]
    known = [version for version in done if version is not None]
    if not known:
        raise NotMaterialized(
            f"{table.id}: the table holds nothing yet; run `featurestore materialize START END`"
        )
    return max(known)
