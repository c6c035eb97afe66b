"""Two laws of stored rows: Redis has the newest ones, and a kept feature kept its values."""

from collections.abc import Sequence

import polars as pl

from featurestore.errors import CorruptData
from featurestore.jobs.online import longest_ttl, stored_rows
from featurestore.jobs.proof.ahead import ahead
from featurestore.jobs.proof.check import Check, skipped
from featurestore.jobs.proof.difference import (
    FAULT,
    WHOLE_ROW,
    apart,
    entities,
    unequal,
    written,
)
from featurestore.jobs.proof.trial import MATCH, Trial, settled
from featurestore.jobs.tables import Place, place_of, shown
from featurestore.model.documents import LiveView, Release, View
from featurestore.model.reads import takes_pushes
from featurestore.model.time import CREATED, EVENT, KNOWN, Interval, inside
from featurestore.model.windows import row_features, row_identity, stored_names
from featurestore.storage.keys import canonical_keys
from featurestore.storage.packed import pack
from featurestore.storage.rows import layout_of

IN_REDIS = "offline = Redis"
KEPT = "old = new"

_FOUND, _WANTED, _TOLD, _OLD, _NEW = "__found", "__wanted", "__told", "__old", "__new"


def in_redis(trial: Trial, one: LiveView) -> Check:
    """Compare the newest offline rows with the rows in Redis, byte for byte.

    A run may write meanwhile: what differs must differ from every state that Redis may show. What
    was pushed since the table was brought up to date is left out.
    """
    assert one.table is not None
    workspace, view, table = trial.workspace, one.view, one.table
    winners = trial.winners(view, trial.place(one))
    chosen = trial.sampled(winners)
    keys = [key.name for key in view.join_keys]
    trial.keys[view.id] = chosen.select(*keys, MATCH)
    bound = longest_ttl(workspace, view, table)

    def again(wrong: pl.DataFrame) -> pl.DataFrame:
        states = [trial.winners(view, state) for state in shown(workspace, table)]
        return _unlike(trial, one, wrong.select(*keys, MATCH), states, bound)

    wrong = _unlike(trial, one, trial.keys[view.id], [winners], bound)
    found = _in_words(view, settled(workspace, [table], wrong, again))
    if trial.everything and not takes_pushes(view):
        more = _strangers(trial, one, [winners])
        more = settled(
            workspace,
            [table],
            more,
            lambda _: _strangers(
                trial, one, [trial.winners(view, state) for state in shown(workspace, table)]
            ),
        )
        found = pl.concat([found, more])
    names = [feature.name for feature in row_features(view)]
    # Without a row feature, windows have a row of times alone beside them.
    compared = chosen.height * max(1, len(names))
    return Check(
        law=IN_REDIS,
        subject=view.version,
        compared=compared,
        present=compared - sum(chosen[name].null_count() for name in names),
        differences=found,
    )


def _unlike(
    trial: Trial,
    one: LiveView,
    asked: pl.DataFrame,
    states: list[pl.DataFrame],
    bound: int | None,
) -> pl.DataFrame:
    """Give the newest state's rows of those keys whose row in Redis no state has.

    A row that is too old for every ttl that needs it (at most `bound`) may have left Redis.
    """
    assert one.table is not None
    view, on = one.view, [*(key.name for key in one.view.join_keys), MATCH]
    canonical = canonical_keys(asked, view.join_keys)
    (found,) = trial.workspace.online().read([(one.table.id, canonical)])
    wrong = asked.with_columns(pl.Series(_FOUND, found, dtype=pl.Binary))
    oldest = pl.lit(None if bound is None else trial.workspace.clock() - bound, pl.Int64)
    wrong = wrong.filter(~ahead(trial, view, trial.place(one), wrong))
    for winners in states:
        there = winners.join(asked, on=on, how="semi")
        packed = there.with_columns(pl.Series(_WANTED, pack(view, there), dtype=pl.Binary))
        wrong = wrong.select(*on, _FOUND).join(packed, on=on, how="left", maintain_order="left")
        same = pl.col(_FOUND).eq_missing(pl.col(_WANTED))
        gone = pl.col(_FOUND).is_null() & (pl.col(EVENT).to_physical() < oldest)
        wrong = wrong.filter(~(same | gone.fill_null(value=False)))
    return wrong


def _in_words(view: View, wrong: pl.DataFrame) -> pl.DataFrame:
    """Name the features that differ in rows of other bytes; else the row itself."""
    if wrong.is_empty():
        return pl.DataFrame(schema=FAULT)
    layout = layout_of(view)
    keys, names = [k.name for k in view.join_keys], [f.name for f in row_features(view)]
    other = "another row"
    both = wrong.filter(pl.col(_FOUND).is_not_null() & pl.col(_WANTED).is_not_null())
    found = pl.DataFrame(schema=FAULT)
    try:
        decoded = layout.decode(both[_FOUND].to_list()).frame()
    except CorruptData as error:
        other = f"another row: {error}"
    else:
        versions = [view.version] * len(names)
        found = unequal(both, decoded, features=names, keys=keys, check=IN_REDIS, versions=versions)
    there = written(wrong[EVENT]).alias(_TOLD)
    named = wrong.with_columns(entities(wrong, keys).alias("entity"), there)
    whole = apart(
        named.join(found, on="entity", how="anti"),
        keys=keys,
        check=IN_REDIS,
        version=view.version,
        expected=pl.when(pl.col(EVENT).is_null()).then(pl.lit("missing")).otherwise(_TOLD),
        found=pl.when(pl.col(_FOUND).is_null()).then(pl.lit("missing")).otherwise(pl.lit(other)),
    )
    return pl.concat([found, whole])


def _strangers(trial: Trial, one: LiveView, states: list[pl.DataFrame]) -> pl.DataFrame:
    """Say that Redis holds rows of entities that no state of the offline table knows."""
    assert one.table is not None
    on = [*(key.name for key in one.view.join_keys), MATCH]
    known = pl.concat([state.select(on) for state in states]).unique().height if states else 0
    more = trial.workspace.online().count(one.table.id) - known
    rows = (
        [(IN_REDIS, one.view.version, f"{more} entities", WHOLE_ROW, "missing", "in Redis only")]
        if more > 0
        else []
    )
    return pl.DataFrame(rows, schema=FAULT, orient="row")


def kept(trial: Trial, one: LiveView, current: Release) -> Check:
    """Compare the rows of features that kept their ids with those of the live table.

    What is compared are all rows of sampled entities of either table that were known while both
    tables were complete; but not those of the live table that are older than all that the new one
    has: sources let go of old rows, and what they no longer give nobody can compute again.
    """
    old = next((o for o in current.views if o.view.name == one.view.name), None)
    if old is None or old.table is None or one.table is None or old.table == one.table:
        return skipped(KEPT, one.view.version, "there is no other live table")
    if old.view.data_id == one.view.data_id:
        return skipped(KEPT, one.view.version, "it was computed again because it may differ")
    ids = {feature.id for feature in old.view.features}
    names = stored_names(one.view, [f.name for f in one.view.features if f.id in ids])
    was, now = place_of(trial.workspace, old.table), trial.place(one)
    if not names or was is None:
        return skipped(KEPT, one.view.version, "no feature kept its id")
    both = [(a, b) for a in was.covered for b in now.covered]
    common = [
        Interval(start=max(a.start, b.start), end=min(a.end, b.end))
        for a, b in both
        if max(a.start, b.start) < min(a.end, b.end)
    ]
    before, after = (_inside(trial, *each, common) for each in ((old.view, was), (one.view, now)))
    if after.height:
        before = before.filter(pl.col(KNOWN) >= after[KNOWN].min())
    keys = [k.name for k in one.view.join_keys]
    if keys:
        either = pl.concat([before.select(keys), after.select(keys)]).unique(maintain_order=True)
        wanted = trial.sampled(either)
        before, after = (rows.join(wanted, on=keys, how="semi") for rows in (before, after))
    identity = row_identity(one.view)
    if identity != row_identity(old.view):
        identity = (*keys, EVENT, CREATED)
        before, after = _told_apart(before, after, identity)
    return _side_by_side(one.view, before, after, names, identity)


def _told_apart(
    before: pl.DataFrame, after: pl.DataFrame, identity: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Leave out rows that share key and times: one table has them all, the other one of them."""
    twice = [one.filter(one.select(identity).is_duplicated()) for one in (before, after)]
    shared = pl.concat([one.select(identity) for one in twice]).unique()
    left = (one.join(shared, on=identity, how="anti", nulls_equal=True) for one in (before, after))
    return next(left), next(left)


def _inside(trial: Trial, view: View, place: Place, known: list[Interval]) -> pl.DataFrame:
    """Give a table's rows that were known in some intervals."""
    rows = stored_rows(trial.workspace, view, place.table, version=place.version)
    return rows.filter(pl.any_horizontal(pl.lit(value=False), *(_in(one) for one in known)))


def _in(interval: Interval) -> pl.Expr:
    return inside(pl.col(KNOWN), interval)


def _side_by_side(
    view: View,
    before: pl.DataFrame,
    after: pl.DataFrame,
    names: Sequence[str],
    identity: Sequence[str],
) -> Check:
    """Write out which values of the same rows differ, and which rows only one table has."""
    old = before.select(*identity, *names, pl.lit(value=True).alias(_OLD))
    new = after.select(
        *identity, *(pl.col(n).alias(_NEW + n) for n in names), pl.lit(value=True).alias(_NEW)
    )
    joined = old.join(new, on=identity, how="full", nulls_equal=True, coalesce=True).sort(identity)
    one_only = pl.col(_OLD).is_null() | pl.col(_NEW).is_null()
    both, alone = joined.filter(~one_only), joined.filter(one_only)
    found = unequal(
        both.select(*identity, *names),
        both.select(pl.col(_NEW + name).alias(name) for name in names),
        features=names,
        keys=identity,
        check=KEPT,
        versions=[view.version] * len(names),
    )
    there, missing = pl.lit("a row"), pl.lit("missing")
    lost = apart(
        alone,
        keys=identity,
        check=KEPT,
        version=view.version,
        expected=pl.when(pl.col(_OLD).is_null()).then(missing).otherwise(there),
        found=pl.when(pl.col(_NEW).is_null()).then(missing).otherwise(there),
    )
    return Check(
        law=KEPT,
        subject=view.version,
        compared=joined.height * len(names),
        present=both.height * len(names) - sum(both.select(names).null_count().row(0)),
        differences=pl.concat([found, lost]),
    )
