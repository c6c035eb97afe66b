"""Verify: proof that what is served is what training reads, before it goes live and ever after.

Three laws are checked, on a sample of the entities or on all: the newest offline row is the row in
Redis; a training row is the served vector, alone and among many, of stored features and of those
computed on request; and a feature that kept its id in a new version kept its values. What was found
is recorded, and only what passed can be promoted. Beside the release stands what locks are answered
from; of what is live also all that an alias may go back to, and the copy of the release that
servers read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from featurestore.errors import CorruptData, InvalidRequest, NotMaterialized, OnlineDataMissing
from featurestore.jobs.facts import coverage, facts
from featurestore.jobs.promote import candidates
from featurestore.jobs.proof.check import Check, attempt, failed, skipped
from featurestore.jobs.proof.difference import FAULT, WHOLE_ROW
from featurestore.jobs.proof.served import SERVED, questions, served
from featurestore.jobs.proof.stored import IN_REDIS, KEPT, in_redis, kept
from featurestore.jobs.proof.trial import Trial, trial_of
from featurestore.jobs.publish import marked
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, Table, View, dump
from featurestore.model.facts import Facts
from featurestore.model.needs import answered_by
from featurestore.model.steps import lacking
from featurestore.serving.client.client import FeatureClient
from featurestore.storage.keys import check_alias
from featurestore.storage.ledger import Verification

COPIED = "SQL = Redis"
COMPLETE = "complete"

_GAPS = "there are gaps: it proves nothing for a promotion; run `featurestore backfill` first"

_AGAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification found; `versions` are those that passed and are on record as such."""

    alias: str
    checks: tuple[Check, ...]
    versions: tuple[str, ...]

    @property
    def differences(self) -> pl.DataFrame:
        """Every value that differs, a row each."""
        empty = pl.DataFrame(schema=FAULT)
        return pl.concat([empty, *(check.differences for check in self.checks)])

    def __repr__(self) -> str:
        compared, present = (
            sum(getattr(check, name) for check in self.checks) for name in ("compared", "present")
        )
        wrong = self.differences.height
        return f"<Verified {compared:,} values, {present:,} of them not null: {wrong:,} differ>"


def verify(
    workspace: Workspace,
    alias: str = "prod",
    *,
    live: bool = False,
    everything: bool = False,
    client: FeatureClient | None = None,
) -> Verified:
    """Check what the next promotion would make live, or with `live` what an alias serves now.

    `everything` checks all entities, not a sample. With a `client` the vectors are asked of its
    server, which must serve the alias; else the server's code answers in this process. Data that
    cannot be read, and features that cannot be computed of them, differ.

    Raises:
        NotMaterialized: a version has no rows to check.
        NotFound: the alias does not exist, and `live` asks for it.
        InvalidRequest: a client without `live`, or an alias with other characters than it may have.
        Conflict: the alias moved while its server was asked, or runs never paused for long enough.
        CorruptData: a document of the registry is not what was written.
        Unavailable: as the stores say.
    """
    check_alias(alias)
    if client is not None and not live:
        raise InvalidRequest("verify: a server serves what is live; pass live as well")
    known = facts(workspace)
    number = known.aliases.get(alias)
    current = None if live or number is None else known.releases[number]
    release = _live(workspace, alias) if live else _next(workspace)
    if not release.views:
        raise NotMaterialized("verify: there are no views; nothing can be compared")
    trial = trial_of(workspace, release, everything=everything, client=client)
    copied = [attempt(COPIED, alias, [alias], partial(_copied, workspace, alias))] if live else []
    checks = _tried(trial, current) + copied
    gaps = frozenset[str]() if live else frozenset(_gaps(workspace, known, release, alias))
    checks += [skipped(COMPLETE, version, _GAPS) for version in sorted(gaps)]
    passed = _recorded(trial, checks, alias, candidate=not live, gaps=gaps)
    checks += [
        one
        for beside in _beside(known, trial, live=live)
        for one in _stands(trial, beside, live=live)
    ]
    return Verified(alias=alias, checks=tuple(checks), versions=passed)


def verify_stored(workspace: Workspace, one: LiveView) -> None:
    """Check one version's rows in Redis against its table, and record that it passed.

    Raises:
        CorruptData: rows differ; the first is named.
    """
    trial = trial_of(workspace, _alone(workspace, one))
    checks = _tried(trial, None)
    _recorded(trial, checks)
    found = pl.concat([check.differences for check in checks])
    if found.height:
        first = found.row(0, named=True)
        raise CorruptData(
            f"{one.view.version}: Redis differs from the offline table in {found.height} values, "
            f"the first {first['feature']} of {first['entity']}; run `featurestore rebuild-online`"
        )


def _gaps(workspace: Workspace, known: Facts, release: Release, alias: str) -> Iterator[str]:
    """Give the versions whose tables lack what they must hold to be live in an alias."""
    covered = coverage(workspace)
    for one in release.views:
        if one.table is not None and lacking(known, covered, one.view, one.table, alias):
            yield one.view.version


def _live(workspace: Workspace, alias: str) -> Release:
    """Give the release that an alias names, its tables complete to where they are now."""
    release = workspace.releases.alias(alias)
    return replace(release, views=tuple(marked(workspace, one) for one in release.views))


def _next(workspace: Workspace) -> Release:
    """Give the release that the next promotion would write."""
    project = workspace.project()
    return Release(
        project=project.name,
        number=0,
        views=candidates(workspace, project.views, action="verify"),
        services=project.services,
        created=workspace.clock(),
    )


def _alone(workspace: Workspace, one: LiveView) -> Release:
    """Give a release of one view."""
    return Release(
        project=workspace.config.project,
        number=0,
        views=(one,),
        services=(),
        created=workspace.clock(),
    )


def _tried(trial: Trial, current: Release | None) -> list[Check]:
    """Check all laws of a release on trial; `current` is what it would replace."""
    checks = []
    for one in (one for one in trial.release.views if one.table is not None):
        version = one.view.version
        checks.append(attempt(IN_REDIS, version, [version], partial(in_redis, trial, one)))
    for asked in questions(trial):
        versions = (*asked.stored, *asked.computed)
        checks.append(attempt(SERVED, asked.subject, versions, partial(served, trial, asked)))
    for one in trial.release.views if current is not None else ():
        version = one.view.version
        if one.table is not None and current is not None:
            checks.append(attempt(KEPT, version, [version], partial(kept, trial, one, current)))
    return checks


def _copied(workspace: Workspace, alias: str) -> Check:
    """Compare an alias and its release in Redis, which servers read, with those in SQL.

    Whoever moves the alias meanwhile writes to SQL first: what differs is read again.
    """
    found: list[tuple[str, str]] = []
    number = 0
    for _ in range(_AGAIN):
        found, number = [], workspace.releases.alias(alias).number
        there, wanted = workspace.online().alias(alias), dump(workspace.releases.release(number))
        copy = workspace.online().release(number)
        if there != number:
            found.append((f"release {number}", "nothing" if there is None else f"release {there}"))
        if copy != wanted:
            found.append((f"release {number}", "nothing" if copy is None else "another document"))
        if not found:
            break
    rows = [
        (COPIED, f"release {number}", alias, WHOLE_ROW, was, f"{now}; {_WAY_OUT}")
        for was, now in found
    ]
    differences = pl.DataFrame(rows, schema=FAULT, orient="row")
    return Check(law=COPIED, subject=alias, compared=2, present=2, differences=differences)


_WAY_OUT = "run `featurestore rebuild-online`"


def _beside(known: Facts, trial: Trial, *, live: bool) -> Iterator[LiveView]:
    """Give the stored versions that are answered from beside a release on trial.

    That is what registered locks would be answered from; of what is live also what recent releases
    are of. What the release on trial would replace does not count against it: it may be what is
    damaged; nor does another generation of what is live.
    """
    named = [known.releases[number].views for number in known.aliases.values()] if live else []
    there = {place.table.data_id for place in trial.places.values()}
    views = [
        one
        for release in known.releases.values()
        for one in release.views
        if live and one.table is not None and one.table.data_id not in there
    ]
    for registered in (one for one in known.locks if one.holds(known.now)):
        for current in (trial.release.views, *named):
            answers = answered_by(known, registered.lock, current)
            views += [one for _, one in answers if one is not None]
    of: dict[Table, dict[str, View]] = {}
    for one in views:
        if one.table in known.tables and one.table is not None and one.table.id not in trial.places:
            of.setdefault(one.table, {})[one.view.id] = one.view
    for table, versions in of.items():
        yield from (LiveView(view=view, table=table) for view in versions.values())


def _stands(trial: Trial, one: LiveView, *, live: bool) -> list[Check]:
    """Check a stored version beside the release, and record it; a promotion loads what is gone."""
    workspace, version = trial.workspace, one.view.version
    if one.table is not None and not workspace.online().is_marked(one.table.id):
        if not live:
            return [skipped(IN_REDIS, version, f"it is not in Redis; {_WAY_OUT}")]
        error = OnlineDataMissing(f"{version}: is not in Redis; {_WAY_OUT}")
        gone = failed(IN_REDIS, [version], "-", error)
        return [Check(law=IN_REDIS, subject=version, differences=gone)]
    beside = trial_of(workspace, _alone(workspace, one), everything=trial.everything)
    checks = _tried(beside, None)
    _recorded(beside, checks)
    return checks


def _recorded(
    trial: Trial,
    checks: Sequence[Check],
    alias: str = "",
    *,
    candidate: bool = False,
    gaps: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Put on record what the checks found of each version; gives those that passed.

    Without an alias the tables were on trial by themselves. What has gaps is no candidate.
    """
    wrong = pl.concat([check.differences for check in checks])
    passed = []
    for one in trial.release.views:
        version = one.view.version
        own = wrong.filter(pl.col("version") == version)
        found = _found(trial, one, checks, own)
        asked = replace(found, alias=alias, candidate=candidate and version not in gaps)
        trial.workspace.ledger.add_verification(asked)
        passed += [version] if own.is_empty() and version not in gaps else []
    return tuple(passed)


def _found(
    trial: Trial, one: LiveView, checks: Sequence[Check], wrong: pl.DataFrame
) -> Verification:
    """Give what was found of a version in the state of its table that was on trial."""
    now = trial.workspace.clock()
    place = trial.place(one) if one.table is not None else None
    return Verification(
        table_id=place.table.id if place else "",
        version=one.view.id,
        delta_version=place.version if place else 0,
        watermark=place.watermark if place else now,
        checked=sum(check.compared for check in checks),
        mismatches=wrong.height,
        at=now,
        who=trial.workspace.who,
        everything=trial.everything,
    )
