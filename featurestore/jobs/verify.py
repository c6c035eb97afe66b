"""Verify: proof that what is served is what training reads, before it goes live and ever after.

Four laws are checked, on a sample of the entities or on all: the newest offline row is the row in
Redis; a training row at the watermark is the served vector; a request of one is a request of many;
and a feature that kept its id in a new version kept its values. What passed is recorded, and only
that can be promoted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotMaterialized
from featurestore.jobs.compare import DIFFERENCE, differences, entities
from featurestore.jobs.facts import committed
from featurestore.jobs.online import latest, longest_ttl, pack, stored_rows
from featurestore.jobs.promote import candidates
from featurestore.jobs.publish import marked
from featurestore.jobs.tables import StoredTables
from featurestore.jobs.workspace import Workspace
from featurestore.model.catalog import Catalog
from featurestore.model.documents import LiveView, Projection, Release, View
from featurestore.model.query import Query, resolve
from featurestore.model.schema import Column
from featurestore.model.time import CREATED, EVENT, KNOWN, MOMENT, moment
from featurestore.serving.client import FeatureClient, request_message
from featurestore.serving.limits import Limits
from featurestore.serving.locks import Locks
from featurestore.serving.respond import respond
from featurestore.serving.response import OnlineResponse, read_response
from featurestore.serving.state import State, state_of
from featurestore.storage.keys import canonical_keys
from featurestore.storage.ledger import Verification
from featurestore.storage.rows import RowLayout, row_columns
from featurestore.training import training_set

SAMPLE = 1_000
"""Entities of each view that are checked unless all are."""

ALONE = 20
"""Requests of one entity among those; the rest come in batches."""

_BATCH = 500
_PATIENCE = 10.0
_NEVER = 2**63 - 1
_ROW = "__row"
_VALUES = (None, 0.0, 1.0, 2.0, 7.0, 12.5, 100.0)
"""Request data to vary: what every dtype can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One law on one version or service: how many values were compared, and which differ.

    `differences` has a row per value, with the columns of `jobs.compare.DIFFERENCE`. `skipped` says
    why nothing could be compared, if so.
    """

    law: str
    subject: str
    compared: int
    differences: pl.DataFrame
    skipped: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a verification found; `versions` are those that passed and are on record as such."""

    alias: str
    checks: tuple[Check, ...]
    versions: tuple[str, ...]

    @property
    def differences(self) -> pl.DataFrame:
        """Every value that differs, a row each."""
        empty = pl.DataFrame(schema=DIFFERENCE)
        return pl.concat([empty, *(check.differences for check in self.checks)])

    def __repr__(self) -> str:
        compared = sum(check.compared for check in self.checks)
        return f"<Verified {compared:,} values: {self.differences.height:,} differ>"


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
    server, which must serve the alias; else the server's code answers in this process.

    Raises:
        NotMaterialized: a version has no rows to check.
        NotFound: the alias does not exist, and `live` asks for it.
        InvalidRequest: a client without `live`.
        Unavailable, CorruptData: as the stores say.
    """
    if client is not None and not live:
        raise InvalidRequest("verify: a server serves what is live; pass live as well")
    number = workspace.releases.aliases().get(alias)
    current = None if live or number is None else workspace.releases.release(number)
    trial = _live(workspace, alias) if live else _next(workspace)
    trying = _Trial(workspace, trial, everything=everything, client=client)
    stored = [one for one in trial.views if one.table is not None]
    if not stored:
        raise NotMaterialized("verify: there are no stored views; nothing can be compared")
    checks = [trying.in_redis(one) for one in stored]
    checks += [trying.served(*asked) for asked in trying.questions()]
    checks += [trying.kept(one, current) for one in stored if current is not None]
    return _recorded(workspace, alias, checks, stored)


def verify_stored(workspace: Workspace, one: LiveView) -> None:
    """Check one version's rows in Redis against its table, and record that it passed.

    Raises:
        CorruptData: rows differ; the first is named.
    """
    release = Release(
        project=workspace.config.project,
        number=0,
        views=(one,),
        services=(),
        created=workspace.clock(),
    )
    trying = _Trial(workspace, release, everything=False, client=None)
    checks = [trying.in_redis(one)]
    checks += [trying.served(*asked) for asked in trying.questions()]
    found = _recorded(workspace, "", checks, [one]).differences
    if found.height:
        first = found.row(0, named=True)
        raise CorruptData(
            f"{one.view.version}: Redis differs from the offline table in {found.height} values, "
            f"the first {first['feature']} of {first['entity']}; run `featurestore rebuild-online`"
        )


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


class _Trial:
    """A release on trial: samples of its tables, and the checks that use them."""

    def __init__(
        self,
        workspace: Workspace,
        release: Release,
        *,
        everything: bool,
        client: FeatureClient | None,
    ) -> None:
        self._workspace = workspace
        self._release = release
        self._everything = everything
        self._client = client
        self._seed = workspace.clock()
        self._tables = StoredTables(
            workspace, chosen={one.view.id: one.table for one in release.views if one.table}
        )
        self._keys: dict[str, pl.DataFrame] = {}

    @cached_property
    def _catalog(self) -> Catalog:
        return Catalog(current={one.view.name: one.view for one in self._release.views})

    def in_redis(self, one: LiveView) -> Check:
        """Compare the newest offline rows with the rows in Redis, byte for byte."""
        assert one.table is not None
        winners = latest(one.view, self._rows(one))
        chosen = self._chosen(winners)
        self._keys[one.view.id] = chosen.select(k.name for k in one.view.join_keys)
        wrong = self._unlike(one, chosen)
        if not wrong.is_empty():
            # A run may have written between the two reads: only what stays different is wrong.
            keys = [k.name for k in one.view.join_keys]
            again = latest(one.view, self._rows(one))
            again = again.join(wrong.select(keys), on=keys, how="semi") if keys else again
            wrong = self._unlike(one, again)
        found = _in_words(one, wrong)
        if self._everything:
            more = self._workspace.online().count(one.table.id) - winners.height
            found = pl.concat([found, _strangers(one, more)])
        return Check(
            law="offline = Redis",
            subject=one.view.version,
            compared=chosen.height * len(one.view.features),
            differences=found,
        )

    def questions(self) -> Iterator[tuple[str, tuple[Projection, ...]]]:
        """Give what is asked as training and as serving: every service, then all unused views."""
        asked = set[str]()
        for service in self._release.services:
            query = resolve(service.projections, self._catalog, full_feature_names=True)
            asked |= set(_stored(query))
            yield service.name, service.projections
        for one in self._release.views:
            if one.table is not None and one.view.id not in asked:
                names = tuple(f.name for f in one.view.features)
                yield (
                    one.view.version,
                    (Projection(view=one.view.name, alias=one.view.name, features=names),),
                )

    def served(self, subject: str, projections: Sequence[Projection]) -> Check:
        """Compare training rows at the watermark with vectors as the server answers them."""
        query = resolve(projections, self._catalog, full_feature_names=True)
        law = "training = serving"
        marks = [one.watermark for one in self._release.views if one.view.id in _stored(query)]
        at = max((mark for mark in marks if mark is not None), default=self._workspace.clock())
        spine = self._spine(query).with_columns(pl.lit(at, pl.Int64).cast(MOMENT).alias(EVENT))
        trained = training_set(
            spine, query, self._tables, project=self._release.project, allow_stale=True
        )
        rows = spine.drop(EVENT)
        vectors = pl.concat(
            [self._answer(subject, projections, batch, at) for batch in _batches(rows)]
        )
        versions = [_version(query, number) for number in range(len(query.outputs))]
        names = [output.name for output in query.outputs]
        return Check(
            law=law,
            subject=subject,
            compared=rows.height * len(names),
            differences=differences(
                trained.to_polars(),
                vectors,
                features=names,
                keys=[column.name for column in query.entities],
                check=law,
                versions=versions,
            ),
        )

    def kept(self, one: LiveView, current: Release) -> Check:
        """Compare the rows of features that kept their ids with those of the live table."""
        law = "old = new"
        old = next((o for o in current.views if o.view.name == one.view.name), None)
        if old is None or old.table is None or one.table is None or old.table == one.table:
            return _nothing(law, one, "there is no other live table")
        if old.view.data_id == one.view.data_id:
            return _nothing(law, one, "it was computed again because it may differ")
        ids = {feature.id for feature in old.view.features}
        names = [feature.name for feature in one.view.features if feature.id in ids]
        if not names:
            return _nothing(law, one, "no feature kept its id")
        until = min(mark for mark in (one.watermark, old.watermark, _NEVER) if mark is not None)
        keys = [k.name for k in one.view.join_keys]
        before, after = (
            self._sampled(each, keys, self._keys[one.view.id])
            .filter(pl.col(KNOWN) <= pl.lit(until, pl.Int64).cast(MOMENT))
            .select(*keys, EVENT, CREATED, *names)
            for each in (old, one)
        )
        identity = [*keys, EVENT, CREATED]
        both = before.join(
            after, on=identity, how="full", nulls_equal=True, suffix="__new", coalesce=True
        ).sort(identity)
        found = differences(
            both.select(*identity, *names),
            both.select(pl.col(f"{name}__new").alias(name) for name in names),
            features=names,
            keys=identity,
            check=law,
            versions=[one.view.version] * len(names),
        )
        return Check(
            law=law,
            subject=one.view.version,
            compared=both.height * len(names),
            differences=found,
        )

    def _spine(self, query: Query) -> pl.DataFrame:
        """Give entity rows and request data for a query, out of the sampled keys of its views.

        Each lookup's keys come once, with keys of the other lookups beside them, then a row of
        nulls; without keys there are as many rows as it takes to vary the request data.
        """
        parts = []
        for leading in query.lookups:
            rows = self._callers(leading.view, leading.keys)
            for other in query.lookups:
                beside = self._callers(other.view, other.keys)
                lacking = [name for name in beside.columns if name not in rows.columns]
                if lacking and beside.height:
                    places = pl.int_range(rows.height, eager=True) * 7 % beside.height
                    rows = rows.hstack(beside.select(lacking)[places])
            parts.append(rows)
        names = [column.name for column in query.entities]
        schema = {column.name: column.polars for column in query.entities}
        whole = [part.select(names) for part in parts if set(names) <= set(part.columns)]
        spine = pl.concat([pl.DataFrame(schema=schema), *whole]) if names else pl.DataFrame()
        if names:
            nulls = pl.DataFrame({name: [None] for name in names}, schema=schema)
            spine = pl.concat([spine.unique(maintain_order=True), nulls])
        height = spine.height if names else len(_VALUES) if query.request else 1
        request = [_varied(column, height) for column in query.request]
        number = pl.int_range(height, eager=True).alias(_ROW)
        return pl.DataFrame([number, *spine.get_columns(), *request])

    def _callers(self, view: View, keys: Sequence[tuple[Column, str]]) -> pl.DataFrame:
        """Give a view's sampled keys under the caller's names; one column may hold two keys."""
        sampled = self._keys[view.id]
        columns = {caller: sampled[key.name].alias(caller) for key, caller in keys}
        return pl.DataFrame(list(columns.values()))

    def _answer(
        self, subject: str, projections: Sequence[Projection], rows: pl.DataFrame, at: int
    ) -> pl.DataFrame:
        names = {service.name for service in self._release.services}
        features: str | list[str] = subject
        if subject not in names:
            features = [f"{p.view}:{name}" for p in projections for name in p.features]
        query = resolve(projections, self._catalog, full_feature_names=True)
        entities = rows.select(column.name for column in query.entities)
        request = rows.select(column.name for column in query.request)
        brought = entities if entities.width else None
        data = request if request.width else None
        when = moment(at)
        if self._client is not None:
            answer = self._client.get_online_features(
                features,
                entities=brought,
                request_data=data,
                full_feature_names=True,
                as_of=when,
                timeout=_PATIENCE,
            )
            self._refuse_moved(answer)
        else:
            message, columns = request_message(
                features,
                entities=brought,
                request_data=data,
                full_feature_names=True,
                as_of=when,
            )
            raw = respond(
                self._state,
                message.SerializeToString(),
                most=Limits().rows,
                clock=self._workspace.clock,
                read=self._workspace.online().read,
                locks=Locks(self._release.project),
            )
            answer = read_response(raw, columns)
        return pl.DataFrame(answer.columns)

    def _refuse_moved(self, answer: OnlineResponse) -> None:
        if answer.release != self._release.number:
            raise Conflict(
                f"verify: the server answered from release {answer.release}, the alias named "
                f"{self._release.number}; run it again"
            )

    @cached_property
    def _state(self) -> State:
        return state_of(self._release)

    def _rows(self, one: LiveView) -> pl.DataFrame:
        assert one.table is not None
        version = committed(self._workspace, one.table)
        return stored_rows(self._workspace, one.view, one.table, version=version)

    def _sampled(self, one: LiveView, keys: list[str], wanted: pl.DataFrame) -> pl.DataFrame:
        """Give all rows of the sampled entities."""
        rows = self._rows(one)
        return rows.join(wanted, on=keys, how="semi") if keys else rows

    def _chosen(self, winners: pl.DataFrame) -> pl.DataFrame:
        if self._everything or winners.height <= SAMPLE:
            return winners
        return winners.sample(SAMPLE, seed=self._seed % 2**32)

    def _unlike(self, one: LiveView, winners: pl.DataFrame) -> pl.DataFrame:
        """Give the winners whose row in Redis has other bytes, with that row as `__found`.

        A row that is too old for every ttl that needs it may have left Redis.
        """
        assert one.table is not None
        canonical = canonical_keys(winners, one.view.join_keys)
        (found,) = self._workspace.online().read([(one.table.id, canonical)])
        both = winners.with_columns(
            pl.Series("__found", found, dtype=pl.Binary),
            pl.Series("__wanted", pack(one.view, winners), dtype=pl.Binary),
        )
        wrong = both.filter(pl.col("__found").ne_missing(pl.col("__wanted"))).drop("__wanted")
        bound = longest_ttl(self._workspace, one.view, one.table)
        if bound is None:
            return wrong
        oldest = pl.lit(self._workspace.clock() - bound, pl.Int64).cast(MOMENT)
        return wrong.filter(pl.col("__found").is_not_null() | (pl.col(EVENT) >= oldest))


def _in_words(one: LiveView, wrong: pl.DataFrame) -> pl.DataFrame:
    """Name the features that differ in rows of other bytes; else the row itself."""
    law, version = "offline = Redis", one.view.version
    if wrong.is_empty():
        return pl.DataFrame(schema=DIFFERENCE)
    layout = RowLayout(columns=row_columns(one.view))
    keys, names = [k.name for k in one.view.join_keys], [f.name for f in one.view.features]
    rows: list[bytes | None] = wrong["__found"].to_list()
    try:
        decoded = layout.decode(rows).frame()
    except CorruptData:
        decoded = pl.DataFrame(schema={c.name: c.polars for c in layout.columns})
    found = pl.DataFrame(schema=DIFFERENCE)
    if decoded.height:
        found = differences(
            wrong,
            decoded,
            features=names,
            keys=keys,
            check=law,
            versions=[version] * len(names),
        )
    unnamed = wrong.with_columns(entities(wrong, keys).alias("entity"))
    unnamed = unnamed.join(found, on="entity", how="anti")
    whole = unnamed.select(
        pl.lit(law).alias("check"),
        pl.lit(version).alias("version"),
        "entity",
        pl.lit("(the row)").alias("feature"),
        pl.col(EVENT).cast(pl.String).alias("expected"),
        pl.when(pl.col("__found").is_null())
        .then(pl.lit("missing"))
        .otherwise(pl.lit("another row"))
        .alias("found"),
    )
    return pl.concat([found, whole])


def _strangers(one: LiveView, more: int) -> pl.DataFrame:
    """Say that Redis holds rows of entities that the offline table does not know."""
    if more <= 0:
        return pl.DataFrame(schema=DIFFERENCE)
    return pl.DataFrame(
        {
            "check": ["offline = Redis"],
            "version": [one.view.version],
            "entity": [f"{more} entities"],
            "feature": ["(the row)"],
            "expected": ["missing"],
            "found": ["in Redis only"],
        },
        schema=DIFFERENCE,
    )


def _batches(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Give the first rows one by one, then the others together."""
    alone = min(ALONE, rows.height)
    yield from (rows.slice(at, 1) for at in range(alone))
    yield from rows.slice(alone).iter_slices(_BATCH)


def _varied(column: Column, height: int) -> pl.Series:
    """Give request data that varies: small numbers as the dtype writes them, and null."""
    dtype = column.polars
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    plain = pl.Series(column.name, _VALUES, dtype=pl.Float64)
    if inner == pl.Boolean:
        values = plain > 1
    elif inner == pl.String:
        values = plain.cast(pl.String)
    else:
        values = plain.cast(pl.Int64).cast(inner) if inner != pl.Float64 else plain
    if isinstance(dtype, pl.List):
        values = values.reshape((-1, 1)).arr.to_list()
    elif isinstance(dtype, pl.Array):
        values = pl.select(pl.concat_list([pl.lit(values)] * dtype.size)).to_series().cast(dtype)
    return values[pl.int_range(height, eager=True) % len(_VALUES)].alias(column.name)


def _version(query: Query, number: int) -> str:
    """Give the version of the view that an output is stored in or computed by."""
    output = query.outputs[number]
    if output.lookup is not None:
        return query.lookups[output.lookup].view.version
    return query.computes[output.compute or 0].view.version


def _stored(query: Query) -> list[str]:
    return [lookup.view.id for lookup in query.lookups]


def _nothing(law: str, one: LiveView, why: str) -> Check:
    none = pl.DataFrame(schema=DIFFERENCE)
    return Check(law=law, subject=one.view.version, compared=0, differences=none, skipped=why)


def _recorded(
    workspace: Workspace, alias: str, checks: Sequence[Check], stored: Sequence[LiveView]
) -> Verified:
    """Put on record what each stored version's checks found; a service's count for all it reads."""
    found = Verified(alias=alias, checks=tuple(checks), versions=())
    wrong = found.differences
    computed = set(wrong["version"]) - {one.view.version for one in stored}
    passed = []
    for one in stored:
        assert one.table is not None
        own = wrong.filter(pl.col("version").is_in([one.view.version, *computed])).height
        workspace.ledger.add_verification(
            Verification(
                table_id=one.table.id,
                version=one.view.id,
                delta_version=committed(workspace, one.table),
                watermark=one.watermark or 0,
                checked=sum(check.compared for check in checks),
                mismatches=own,
                at=workspace.clock(),
                who=workspace.who,
            )
        )
        passed += [] if own else [one.view.version]
    return Verified(alias=alias, checks=tuple(checks), versions=tuple(passed))
