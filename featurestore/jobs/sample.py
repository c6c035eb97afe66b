"""What a change of definition does to values: old against new on the newest real rows."""

from dataclasses import dataclass, replace

from featurestore.engine.rows import windowed
from featurestore.errors import SourceError
from featurestore.jobs.compute import feature_rows
from featurestore.jobs.proof.difference import Differences, differences
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.needs import relocated
from featurestore.model.time import KNOWN, Interval

ROWS = 20_000
"""How many rows are compared, about: all that became known at one moment are taken together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a view's rows known in an interval were and will be; or why nobody can tell."""

    view: str
    before: str | None
    after: str
    interval: Interval | None = None
    found: Differences | None = None
    why_not: str | None = None


def sample(workspace: Workspace, old: View | None, new: View, *, rows: int = ROWS) -> Sample:
    """Compute both versions of a view over the newest rows of the old one's table and compare.

    Features whose id is the same are left out. Both are computed from the source as it is now, so
    that only the definition can make a difference; windows cover the rows compared only.
    """
    told = Sample(view=new.name, before=old.version if old else None, after=new.version)
    if old is None:
        return replace(told, why_not="it is new: nothing to compare it with")
    if "on_demand" in (old.kind, new.kind):
        return replace(told, why_not="it is computed at request time, from data nobody stored")
    table = workspace.table(old)
    interval = newest(workspace, old, table, rows) if table else None
    if interval is None:
        return replace(told, why_not=f"{old.version} was never materialized")
    kept = {feature.id for feature in old.features}
    moved = [feature.name for feature in new.features if feature.id not in kept]
    roots = workspace.config.sources
    try:
        before = windowed(old, feature_rows(relocated(old, new), roots, interval))
        after = windowed(new, feature_rows(new, roots, interval))
    except SourceError as error:
        return replace(told, interval=interval, why_not=str(error))
    found = differences(old, new, before, after, moved)
    return replace(told, interval=interval, found=found)


def newest(workspace: Workspace, view: View, table: Table, rows: int) -> Interval | None:
    """Give the newest known-at interval that holds about so many of a table's rows, or None.

    It lies in one stretch that was materialized without a gap.
    """
    covered = workspace.ledger.covered(table.id)
    if not covered:
        return None
    known = workspace.offline.columns(view, table, [KNOWN])[KNOWN].to_physical()
    stretch = covered[-1]
    inside = known.filter((known > stretch.start) & (known <= stretch.end))
    first, last = inside.top_k(min(rows, len(inside))).min(), inside.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return None
    return Interval(start=first - 1, end=last)
