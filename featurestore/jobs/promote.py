"""Promote what is applied to an alias, and roll an alias back: one step each way, no data moves."""

from collections.abc import Sequence
from dataclasses import replace

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotFound, NotMaterialized
from featurestore.jobs.copies import follow_alias
from featurestore.jobs.facts import coverage, facts
from featurestore.jobs.publish import Published, answers, marked, publish
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Project, Release, View
from featurestore.model.facts import Facts, Move
from featurestore.model.names import suggest
from featurestore.model.plan import plan_id as plan_of
from featurestore.model.plan import same_definitions, stale
from featurestore.model.steps import lacking
from featurestore.model.time import second, show
from featurestore.storage.keys import check_alias


def promote(workspace: Workspace, alias: str = "prod", *, plan_id: str | None = None) -> Published:
    """Make the applied project what an alias names; all views move at once.

    With `plan_id` (as `apply` gave it) that is what was planned, or nothing.

    Raises:
        InvalidRequest: the alias has other characters than it may; nothing was written.
        NotMaterialized: a view has no table, gaps, less than what is live, or no verification that
            stands; or a registered lock would not be answered any more; all are named, nothing was
            written.
        Conflict: the plan is stale, somebody else moved the alias or is arranging releases, or
            another registry's releases are in Redis; nothing was written.
    """
    check_alias(alias)
    project = workspace.project()
    expected = workspace.releases.aliases().get(alias)
    if plan_id is not None:
        _refuse_stale(workspace, plan_id, alias)
    views = candidates(workspace, project.views)
    known = facts(workspace)
    _refuse_gaps(workspace, known, views, alias)
    _refuse_unverified(known, views, alias)
    return publish(
        workspace,
        alias,
        expected=expected,
        views=views,
        services=project.services,
        action="promote",
    )


def rollback(workspace: Workspace, alias: str = "prod", *, to: int | None = None) -> Published:
    """Give an alias the views and services of the release that it named before, or of release `to`.

    That is a new release of the old content, with what locks need beside it; tables stay as they
    are, also those that a verification found wrong: that is told. Done again it only completes what
    a death before Redis followed left undone: to go back further, or forward again, takes `to`.

    Raises:
        NotFound: the alias does not exist, or never named that release.
        InvalidRequest: nothing came before the alias's first release, that answered the same, or
            it was rolled back already.
        NotMaterialized: tables of that release were collected, or are not in Redis, or a registered
            lock would not be answered any more.
        Conflict: somebody else moved the alias or is arranging releases, or another registry's
            releases are in Redis; nothing was written.
    """
    releases = workspace.releases
    expected = releases.alias(alias).number
    every = [move for move in releases.moves() if move.alias == alias]
    moves = [move for move in every if move.action != "warm"]
    if to is None and moves[-1].action == "rollback":
        if workspace.online().alias_copy(alias) == str(expected).encode():
            raise InvalidRequest(
                f"rollback: {alias} was rolled back already, {second(moves[-1].at)}, and names "
                f"release {expected}; name the release to go on to with --to, `featurestore log` "
                "lists them"
            )
        follow_alias(workspace, alias)
        return Published(release=releases.release(expected), fresh=False)
    number = _before(moves, alias) if to is None else _named(every, alias, to)
    wanted = releases.release(number)
    views = _restored(workspace, wanted)
    if to is None and answers(releases.release(expected), views, wanted.services):
        raise InvalidRequest(
            f"rollback: release {number}, which {alias} named before, answers the same as release "
            f"{expected} now does; name another one with --to, `featurestore log` lists them"
        )
    done = publish(
        workspace,
        alias,
        expected=expected,
        views=views,
        services=wanted.services,
        action="rollback",
        restores=number,
    )
    known = facts(workspace)
    wrong = (
        one.view.version
        for one in views
        if known.wrong(one.view, one.table, alias) or _lost(workspace, one)
    )
    return replace(done, wrong=tuple(wrong))


def _lost(workspace: Workspace, one: LiveView) -> bool:
    """Say whether the folder or log of a table is gone; its rows are not read."""
    try:
        return one.table is not None and workspace.offline.version(one.view, one.table) < 0
    except (CorruptData, NotMaterialized):
        return True


def candidates(
    workspace: Workspace, views: tuple[View, ...], *, action: str = "promote"
) -> tuple[LiveView, ...]:
    """Give versions with their newest tables, as a release of them would; `action` asks for them.

    Raises:
        NotMaterialized: a version has no rows offline, or none in Redis; all are named.
    """
    known = facts(workspace)
    found, missing, gone = [], [], []
    for view in views:
        table = known.newest(view.data_id) if view.kind == "batch" else None
        one = marked(workspace, LiveView(view=view, table=table))
        if view.kind == "batch" and (table is None or one.watermark is None):
            missing.append(view.version)
        elif table is not None and not workspace.online().is_marked(table.id):
            gone.append(view.version)
        found.append(one)
    if missing:
        raise NotMaterialized(
            f"{action}: not materialized are {', '.join(missing)}; run `featurestore backfill` "
            "first; nothing was written"
        )
    if gone:
        raise NotMaterialized(
            f"{action}: not in Redis are {', '.join(gone)}; run `featurestore rebuild-online` "
            "first; nothing was written"
        )
    return tuple(found)


def _refuse_gaps(
    workspace: Workspace, known: Facts, views: tuple[LiveView, ...], alias: str
) -> None:
    """Refuse tables with holes, or that hold less than what they would replace."""
    covered = coverage(workspace)
    found = [
        f"{one.view.version} from {show(gap.start)} to {show(gap.end)}"
        for one in views
        if one.table is not None
        for gap in lacking(known, covered, one.view, one.table, alias)
    ]
    if found:
        raise NotMaterialized(
            f"promote: there are gaps in {', '.join(found)}; run `featurestore backfill` first; "
            "nothing was written"
        )


def _refuse_unverified(known: Facts, views: tuple[LiveView, ...], alias: str) -> None:
    unproven = [one for one in views if not known.proven(one.view, one.table, alias)]
    failed = [one.view.version for one in unproven if known.wrong(one.view, one.table, alias)]
    others = [one.view.version for one in unproven if one.view.version not in failed]
    told = [f"not verified are {', '.join(others)}"] if others else []
    told += [f"verification failed of {', '.join(failed)}"] if failed else []
    where = "" if alias == "prod" else f" --alias {alias}"
    if told:
        raise NotMaterialized(
            f"promote: {'; '.join(told)}; run `featurestore verify{where}` first"
            f"{', with --all if that is what failed' if failed else ''}; nothing was written"
        )


def _refuse_stale(workspace: Workspace, plan_id: str, alias: str) -> None:
    """Refuse a plan that something moved under, unless the plan itself was carried out already.

    Then it may have died before Redis followed.
    """
    head = workspace.registry.head()
    number = workspace.releases.aliases().get(alias)
    if head is None:
        return
    now_id = plan_of(alias, head.revision, facts(workspace).promoted(alias), head.project)
    moved = stale(plan_id, now_id)
    done = number is not None and _answers(workspace.releases.release(number), head.project)
    if moved is not None and not (done and same_definitions(plan_id, now_id)):
        raise Conflict(f"promote: {moved}; plan again, nothing was written")


def _answers(release: Release, project: Project) -> bool:
    """Say whether a release is of these very versions and services."""
    views = {one.view.id for one in release.views} == {view.id for view in project.views}
    services = {one.id for one in release.services} == {one.id for one in project.services}
    return views and services


def _before(moves: Sequence[Move], alias: str) -> int:
    previous = moves[-1].previous if moves else None
    if previous is None:
        raise InvalidRequest(f"rollback: {alias} named nothing before; promote something else")
    return previous


def _named(moves: Sequence[Move], alias: str, number: int) -> int:
    numbers = {str(move.number) for move in moves}
    if str(number) not in numbers:
        raise NotFound(
            f"rollback: {alias} never named release {number}{suggest(str(number), numbers)}; "
            "`featurestore log` lists its releases"
        )
    return number


def _restored(workspace: Workspace, wanted: Release) -> tuple[LiveView, ...]:
    """Give a release's views as they can be answered now.

    A table that was collected may have been computed again since, and verified.

    Raises:
        NotMaterialized: tables are gone, or not in Redis; to answer from them would answer nothing.
    """
    known, online = facts(workspace), workspace.online()
    views, collected, lost = [], [], []
    for one in wanted.views:
        table = one.table
        if table is not None and table not in known.tables:
            table = known.sound(table.data_id)
            if table is None or (one.view.id, table.id) not in known.passed:
                collected.append(one.view.version)
                continue
        if table is not None and not online.is_marked(table.id):
            lost.append(one.view.version)
        views.append(marked(workspace, replace(one, table=table)))
    if collected:
        raise NotMaterialized(
            f"rollback: the tables of {', '.join(collected)} in release {wanted.number} were "
            "collected; apply that release's definitions, then backfill and promote them"
        )
    if lost:
        raise NotMaterialized(
            f"rollback: {', '.join(lost)} of release {wanted.number} are not in Redis; run "
            "`featurestore rebuild-online` first"
        )
    return tuple(views)
