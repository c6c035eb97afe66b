"""The law between training and serving: what a server answers is what a training row holds.

It is asked at the watermark, where everything is known, and for each entity again at the moment its
newest row became known, where its values count and no ttl has passed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import islice, product
from operator import or_

import polars as pl

from featurestore.errors import Conflict, NotFound
from featurestore.jobs.proof.ahead import ahead
from featurestore.jobs.proof.check import COMPUTING, READING, Check, failed
from featurestore.jobs.proof.difference import FAULT, unequal
from featurestore.jobs.proof.entity_rows import ROW, VALUES, entity_rows, with_request
from featurestore.jobs.proof.trial import MATCH, AsTheyStand, Trial, matching, settled
from featurestore.jobs.tables import Place, shown
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Projection, Table
from featurestore.model.query import Lookup, Query, resolve
from featurestore.model.time import EVENT, KNOWN, MOMENT, moment
from featurestore.serving.answer.respond import respond
from featurestore.serving.answer.state import State, state_of
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.response import OnlineResponse, read_response
from featurestore.serving.message.limits import Limits
from featurestore.serving.message.locks import Locks
from featurestore.storage.bits import same_bits
from featurestore.storage.keys import canonical_keys
from featurestore.training import training_set

SERVED = "training = serving"

ALONE = 20
"""Requests of one entity; the rest come in batches."""

MOMENTS = 50
"""Moments besides the watermark that are asked for; with all entities ten times as many."""

_BATCH = 500
_STATES = 8
_PATIENCE = 10.0
_AT = "__at"

Places = Mapping[str, Place]
"""States of tables, by table id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked as training and as serving: a service, or a view that no service reads."""

    subject: str
    features: str | list[str]
    query: Query

    @property
    def stored(self) -> tuple[str, ...]:
        """The versions that the answer is read from."""
        return tuple(dict.fromkeys(use.view.version for use in self.query.lookups))

    @property
    def computed(self) -> tuple[str, ...]:
        """The versions that the answer is computed by."""
        return tuple(dict.fromkeys(use.view.version for use in self.query.computes))


def questions(trial: Trial) -> Iterator[Question]:
    """Give what is asked: every service, then the features that no service reads or computes."""
    release = trial.release
    catalog = Catalog(current={one.view.name: one.view for one in release.views})
    asked = set[tuple[str, str]]()
    for service in release.services:
        query = resolve(service.projections, catalog, full_feature_names=True)
        asked |= {(use.view.id, one.name) for use in query.lookups for one in use.features}
        asked |= {(use.view.id, one.name) for use in query.computes for one in use.features}
        yield Question(subject=service.name, features=service.name, query=query)
    for view in (one.view for one in release.views):
        features = (feature.name for feature in view.features)
        names = tuple(name for name in features if (view.id, name) not in asked)
        if names:
            use = Projection(view=view.name, alias=view.name, features=names)
            query = resolve([use], catalog, full_feature_names=True)
            listed = [f"{view.name}:{name}" for name in names]
            yield Question(subject=view.version, features=listed, query=query)


def served(trial: Trial, question: Question) -> Check:
    """Compare training rows of sampled entities with vectors as the server answers them.

    A run may write meanwhile: a row that differs must differ from every state of the tables that
    Redis may show.
    """
    asking = Asking(trial, question)
    first = asking.first()
    tables = [trial.places[table.id].table for table in asking.tables]
    last = first

    def again(wrong: pl.DataFrame) -> pl.DataFrame:
        nonlocal last
        for states in islice(
            product(*(shown(trial.workspace, table) for table in tables)), _STATES
        ):
            last = asking.outcome(wrong, {state.table.id: state for state in states})
            wrong = last.wrong
            if wrong.is_empty():
                break
        return wrong

    settled(trial.workspace, tables, first.wrong, again)
    nothing = last.differences.is_empty() and not first.present
    return Check(
        law=SERVED,
        subject=question.subject,
        compared=first.compared,
        present=first.present,
        differences=last.differences,
        skipped="all of these values are null: nothing is proven" if nothing else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How entity rows were answered: which of them wrongly, and all that differs in them.

    Rows that training cannot compute are not `computable`.
    """

    wrong: pl.DataFrame
    differences: pl.DataFrame
    compared: int = 0
    present: int = 0
    computable: bool = True


class Asking:
    """One question, asked of the training join and of the server."""

    def __init__(self, trial: Trial, question: Question) -> None:
        self._trial = trial
        self._question = question
        self._query = question.query
        self._state: State = state_of(trial.release)
        of = {one.view.id: one.table for one in trial.release.views}
        self._table: dict[str, Table] = {}
        for lookup in self._query.lookups:
            table = of[lookup.view.id]
            assert table is not None
            self._table[lookup.view.id] = table

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that the question reads."""
        return tuple(dict.fromkeys(self._table.values()))

    def first(self) -> Outcome:
        """Ask for the sampled rows, with request data of values that can be computed with.

        Values that no feature takes are left out; without any left all are brought, and told.
        """
        rows, places = entity_rows(self._query, self._trial.keys), self._trial.places
        every = range(len(VALUES))
        found = self.outcome(with_request(rows, self._query, every), places)
        if found.computable or not self._query.request:
            return found
        taken = [n for n in every if self._takes(with_request(rows, self._query, [n]))]
        return self.outcome(with_request(rows, self._query, taken), places) if taken else found

    def _takes(self, rows: pl.DataFrame) -> bool:
        try:
            self._trained(self._at_watermark(rows, self._trial.places), self._trial.places)
        except NotFound:
            raise
        except COMPUTING:
            return False
        return True

    def outcome(self, rows: pl.DataFrame, places: Places) -> Outcome:
        """Ask for numbered rows at the watermark and their own moments, in a state of tables.

        Entities that were pushed to since are left out.
        """
        rows = self._level(rows, places)
        try:
            mark = self._at_watermark(rows, places)
            asked = pl.concat([mark, self._at_own(rows, places)])
            trained = self._trained(asked, places)
        except NotFound:
            raise
        except (*READING, *COMPUTING) as error:
            told = self._failed(rows, error)
            computable = not isinstance(error, COMPUTING)
            return Outcome(wrong=rows, differences=told, computable=computable)
        names = trained.columns
        found: list[pl.DataFrame] = []
        numbers: list[pl.Series] = []
        for at, many in _batches(asked, mark.height):
            batch, expected = asked.slice(at, many), trained.slice(at, many)
            try:
                vectors = self._answer(batch)
            except NotFound:
                raise
            except (*READING, *COMPUTING) as error:
                found.append(self._failed(batch, error))
                numbers.append(batch[ROW])
                continue
            unlike = reduce(or_, (~same_bits(expected[name], vectors[name]) for name in names))
            if unlike.any():
                numbers.append(batch[ROW].filter(unlike))
                found.append(self._told(batch, expected, vectors, unlike))
        wrong = pl.concat(numbers).unique() if numbers else rows[ROW].clear()
        compared = trained.height * trained.width
        return Outcome(
            wrong=rows.filter(pl.col(ROW).is_in(wrong.implode())),
            differences=pl.concat([pl.DataFrame(schema=FAULT), *found]).unique(maintain_order=True),
            compared=compared,
            present=compared - sum(trained.null_count().row(0)),
        )

    def _level(self, rows: pl.DataFrame, places: Places) -> pl.DataFrame:
        """Leave out rows of which Redis knows more than a table."""
        for lookup in self._query.lookups:
            callers = {key.name: rows[caller].cast(key.polars) for key, caller in lookup.keys}
            asked = matching(rows.select(ROW).with_columns(**callers))
            place = places[self._table[lookup.view.id].id]
            rows = rows.filter(~ahead(self._trial, lookup.view, place, asked))
        return rows

    def _told(
        self, batch: pl.DataFrame, expected: pl.DataFrame, found: pl.DataFrame, wrong: pl.Series
    ) -> pl.DataFrame:
        return unequal(
            pl.concat([batch, expected], how="horizontal").filter(wrong),
            found.filter(wrong),
            features=expected.columns,
            keys=[column.name for column in self._query.entities],
            check=SERVED,
            versions=[self._version(n) for n in range(len(self._query.outputs))],
        )

    def _failed(self, rows: pl.DataFrame, error: Exception) -> pl.DataFrame:
        """Blame what cannot be computed on what computes, what cannot be read on the rest."""
        stored, computed = self._question.stored, self._question.computed
        blamed = computed or stored if isinstance(error, COMPUTING) else stored or computed
        return failed(SERVED, blamed, f"{rows.height} entity rows", error)

    def _version(self, number: int) -> str:
        """Give the version of the view that an output is stored in or computed by."""
        output = self._query.outputs[number]
        if output.lookup is not None:
            return self._query.lookups[output.lookup].view.version
        return self._query.computes[output.compute or 0].view.version

    def _at_watermark(self, rows: pl.DataFrame, places: Places) -> pl.DataFrame:
        """Give rows the newest moment that a table is complete to."""
        marks = [places[table.id].watermark for table in self.tables]
        at = max(marks, default=self._trial.workspace.clock())
        times = pl.repeat(at, rows.height, dtype=pl.Int64, eager=True)
        return rows.with_columns(times.cast(MOMENT).alias(EVENT))

    def _at_own(self, rows: pl.DataFrame, places: Places) -> pl.DataFrame:
        """Give rows a moment from which on training and serving know the same of their keys.

        That is the latest at which one of their newest rows became known, or soon after: few
        moments are asked for. Rows that Redis let go of, after their ttl, are left out.
        """
        at = rows.select(ROW)
        for number, lookup in enumerate(self._query.lookups):
            known = self._known(lookup, rows, places[self._table[lookup.view.id].id])
            at = at.with_columns(known.alias(f"{_AT}{number}"))
        latest = pl.max_horizontal(pl.lit(None, pl.Int64), pl.exclude(ROW)).alias(_AT)
        own = rows.with_columns(at.with_columns(latest)[_AT])
        own = own.filter(pl.col(_AT) < _NEVER).sort(_AT)
        moments = own[_AT].unique().sort()
        most = MOMENTS * 10 if self._trial.everything else MOMENTS
        if len(moments) > most:
            places_of = (pl.int_range(1, most + 1, eager=True) * len(moments) // most) - 1
            moments = moments[places_of]
        later = moments.search_sorted(own[_AT], side="left")
        return own.with_columns(moments[later].cast(MOMENT).alias(EVENT)).drop(_AT)

    def _known(self, lookup: Lookup, rows: pl.DataFrame, place: Place) -> pl.Series:
        """Give when a lookup's rows became known; never, if Redis does not hold them."""
        callers = {key.name: rows[caller].cast(key.polars) for key, caller in lookup.keys}
        asked = matching(rows.select(ROW).with_columns(**callers))
        keys = list(callers)
        known = self._trial.known(lookup.view, place)
        joined = asked.join(known, on=[*keys, MATCH], how="left", maintain_order="left")
        canonical = canonical_keys(asked, lookup.view.join_keys)
        (found,) = self._trial.workspace.online().read([(place.table.id, canonical)])
        gone = pl.Series(found, dtype=pl.Binary).is_null() & joined[KNOWN].is_not_null()
        return joined.select(pl.when(gone).then(_NEVER).otherwise(pl.col(KNOWN))).to_series()

    def _trained(self, asked: pl.DataFrame, places: Places) -> pl.DataFrame:
        chosen = {view: places[table.id] for view, table in self._table.items()}
        tables = AsTheyStand(self._trial.workspace, chosen=chosen)
        project = self._trial.release.project
        return training_set(asked, self._query, tables, project=project, allow_stale=True).features

    def _answer(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Give what the server answers to rows of one moment."""
        entities = asked.select(column.name for column in self._query.entities)
        request = asked.select(column.name for column in self._query.request)
        brought = entities if entities.width else None
        data = request if request.width else None
        when = moment(int(asked[EVENT].to_physical()[0]))
        features = self._question.features
        if self._trial.client is not None:
            answer = self._trial.client.get_online_features(
                features,
                entities=brought,
                request_data=data,
                full_feature_names=True,
                as_of=when,
                timeout=_PATIENCE,
            )
            self._refuse_moved(answer)
            return pl.DataFrame(answer.columns)
        message, columns = request_message(
            features, entities=brought, request_data=data, full_feature_names=True, as_of=when
        )
        raw = respond(
            self._state,
            message.SerializeToString(),
            most=Limits().rows,
            clock=self._trial.workspace.clock,
            read=self._trial.workspace.online().read,
            locks=Locks(self._trial.release.project),
        )
        return pl.DataFrame(read_response(raw, columns).columns)

    def _refuse_moved(self, answer: OnlineResponse) -> None:
        if answer.release != self._trial.release.number:
            raise Conflict(
                f"verify: the server answered from release {answer.release}, the alias named "
                f"{self._trial.release.number}; run it again"
            )


_NEVER = 2**63 - 1


def _batches(asked: pl.DataFrame, first: int) -> Iterator[tuple[int, int]]:
    """Give where requests begin and how many rows they have: rows of one moment each.

    Of the first rows, which are of one moment, some come alone.
    """
    alone = min(ALONE, first)
    yield from ((at, 1) for at in range(alone))
    yield from ((at, min(_BATCH, first - at)) for at in range(alone, first, _BATCH))
    runs = asked[EVENT].slice(first).to_physical().rle().struct.field("len")
    at = first
    for many in runs.to_list():
        yield from ((at + more, min(_BATCH, many - more)) for more in range(0, many, _BATCH))
        at += many
