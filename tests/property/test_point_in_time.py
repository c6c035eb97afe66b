"""Point-in-time truth: training rows against an oracle that is too simple to be wrong."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.executor import Executor
from featurestore.model.documents import View
from featurestore.model.schema import Column
from featurestore.model.time import CREATED, EVENT, MOMENT, REVISION, micros
from featurestore.training import TrainingSet, training_set
from tests.tables import Memory, ask, make_view, stored

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")

ORIGINS = tuple(
    micros(datetime(year, 1, 1, tzinfo=UTC)) for year in (1, 1883, 1969, 1970, 2026, 9999)
)


@dataclass(frozen=True)
class Row:
    """One stored row; times are microseconds."""

    key: tuple[object, ...]
    event: int
    created: int | None
    revision: int
    value: int | None


@dataclass(frozen=True)
class Case:
    """Stored rows, entity rows (key, time) and the rules between them."""

    rows: tuple[Row, ...]
    spine: tuple[tuple[tuple[object, ...], int | None], ...]
    key_dtypes: tuple[str, ...]
    ttl: int | None
    delay: int

    @property
    def names(self) -> tuple[str, ...]:
        return ("origin", "carrier")[: len(self.key_dtypes)]

    @property
    def view(self) -> View:
        return make_view(
            keys=dict(zip(self.names, self.key_dtypes, strict=True)),
            ttl=None if self.ttl is None else timedelta(microseconds=self.ttl),
            delay=timedelta(microseconds=self.delay),
        )

    def table(self, rows: Sequence[Row]) -> pl.DataFrame:
        keys = {name: [row.key[n] for row in rows] for n, name in enumerate(self.names)}
        return stored(
            self.view,
            {
                EVENT: [row.event for row in rows],
                CREATED: [row.created for row in rows],
                REVISION: [row.revision for row in rows],
                "value": [row.value for row in rows],
                **keys,
            },
        )

    @property
    def entities(self) -> pl.DataFrame:
        columns = [pl.Series("label", range(len(self.spine)), dtype=pl.Int32)]
        for n, name in enumerate(self.names):
            dtype = Column(name=name, dtype=self.key_dtypes[n]).polars
            columns.append(pl.Series(name, [key[n] for key, _ in self.spine], dtype=dtype))
        return pl.DataFrame([*columns, pl.Series(EVENT, [t for _, t in self.spine], dtype=MOMENT)])

    def answer(
        self,
        rows: Sequence[Row] | None = None,
        *,
        as_known: bool = True,
        buckets: int = 1,
        executor: Executor | None = None,
    ) -> TrainingSet:
        frame = self.table(self.rows if rows is None else rows)
        tables = Memory(frames={"plane": frame}, buckets=buckets)
        return training_set(
            self.entities,
            ask(self.view),
            tables,
            project="tests",
            as_known=as_known,
            executor=executor,
        )


def chosen(case: Case, key: tuple[object, ...], t: int | None, *, as_known: bool) -> Row | None:
    """Scan every row for the one that answers; None if there is none or it is too old."""
    best, best_order = None, None
    for row in case.rows:
        if t is None or None in key or row.key != key:
            continue
        known = row.event + case.delay
        if row.created is not None and row.created > known:
            known = row.created
        if row.event > t or (as_known and known > t):
            continue
        order = (row.event, row.created is not None, row.created or 0, row.revision)
        if best_order is None or order > best_order:
            best, best_order = row, order
    if best is None or t is None or (case.ttl and best.event < t - case.ttl):
        return None
    return best


def expected(case: Case, *, as_known: bool = True) -> list[int | None]:
    """Give the oracle's value for every entity row."""
    found = [chosen(case, key, t, as_known=as_known) for key, t in case.spine]
    return [None if row is None else row.value for row in found]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few keys and few moments, so that duplicates, ties and edges are the rule."""
    key_dtypes = draw(st.sampled_from([(), ("string",), ("int64",), ("string", "int32")]))
    value_of = {"string": st.sampled_from(["", "a", "b", None])}
    number = st.sampled_from([-1, 0, 7, None])
    keys = st.tuples(*(value_of.get(dtype, number) for dtype in key_dtypes))
    origin = draw(st.sampled_from(ORIGINS))
    moments = st.integers(origin, origin + 12)
    rows = draw(
        st.lists(
            st.builds(
                Row,
                key=keys,
                event=moments,
                created=st.none() | moments,
                revision=st.integers(0, 2),
                value=st.none() | st.integers(-(2**63), 2**63 - 1),
            ),
            max_size=14,
            unique_by=lambda row: (row.key, row.event, row.created, row.revision),
        )
    )
    spine = draw(st.lists(st.tuples(keys, st.none() | moments), max_size=10))
    return Case(
        rows=tuple(rows),
        spine=tuple(spine),
        key_dtypes=key_dtypes,
        ttl=draw(st.none() | st.integers(0, 6)),
        delay=draw(st.sampled_from([0, 0, 1, 3])),
    )


BUCKETS = st.sampled_from([1, 2, 8, 64])


@settings(max_examples=200, deadline=None)
@given(cases(), st.booleans(), BUCKETS)
def test_every_value_is_the_oracles(case: Case, as_known: bool, buckets: int) -> None:
    """The greatest (event, created, revision) known at t answers, unless older than the ttl.

    So it is in any number of buckets.
    """
    made = case.answer(as_known=as_known, buckets=buckets).to_polars()
    assert made["value"].to_list() == expected(case, as_known=as_known)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_rows_out_are_rows_in_in_order_and_untouched(case: Case) -> None:
    """Every entity row comes back once, in its order, its own columns equal."""
    made = case.answer().to_polars()
    assert made.drop("value").equals(case.entities)
    assert made.columns == [*case.entities.columns, "value"]


@settings(max_examples=50, deadline=None)
@given(cases())
def test_withheld_counts_the_values_that_known_at_changed(case: Case) -> None:
    """An entity row counts as withheld where its row by event time is another, and is fresh."""
    count = valued = 0
    for key, t in case.spine:
        by_event = chosen(case, key, t, as_known=False)
        valued += by_event is not None
        count += by_event is not None and by_event is not chosen(case, key, t, as_known=True)
    made = case.answer()
    assert made.withheld == {"plane": count}
    assert made.lock.lookups[0].valued == valued
    assert case.answer(as_known=False).withheld == {"plane": 0}


@settings(max_examples=50, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_stored_rows_does_not_matter(case: Case, rng: random.Random) -> None:
    """Shuffled tables give the same answer."""
    shuffled = list(case.rows)
    rng.shuffle(shuffled)
    assert case.answer(shuffled).features.equals(case.answer().features)


@settings(max_examples=50, deadline=None)
@given(cases(), st.integers(1, 5), st.none() | st.integers(0, 20))
def test_what_happens_after_every_moment_changes_nothing(
    case: Case, later: int, created: int | None
) -> None:
    """Rows with an event after every entity row's time leave all answers as they are."""
    last = max([t for _, t in case.spine if t is not None], default=0)
    future = [
        Row(
            key=row.key,
            event=last + later + n,
            created=None if created is None else last + created,
            revision=9,
            value=n,
        )
        for n, row in enumerate(case.rows)
    ]
    assert case.answer([*future, *case.rows]).features.equals(case.answer().features)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_what_becomes_known_after_every_moment_changes_nothing(case: Case) -> None:
    """Corrections of every row, created after every entity row's time, never show."""
    last = max([t for _, t in case.spine if t is not None], default=0)
    corrected = [
        Row(key=row.key, event=row.event, created=last + 1 + n, revision=9, value=n)
        for n, row in enumerate(case.rows)
    ]
    assert case.answer([*corrected, *case.rows]).features.equals(case.answer().features)


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/New_York"]))
def test_the_zone_of_a_moment_does_not_matter(case: Case, zone: str) -> None:
    """Entity rows that tell the same instants in another zone get the same values."""
    told = case.entities.with_columns(pl.col(EVENT).dt.convert_time_zone(zone))
    tables = Memory(frames={"plane": case.table(case.rows)})
    made = training_set(told, ask(case.view), tables, project="tests").to_polars()
    assert made["value"].to_list() == expected(case)
    assert made[EVENT].dtype == pl.Datetime("us", zone)


def test_a_larger_table_agrees_with_the_oracle() -> None:
    """Thousands of rows of many keys, a third of them late, in no order."""
    rng = random.Random(20260329)
    rows = {}
    for n in range(3000):
        event = rng.randrange(10_000)
        created = rng.choice([None, event, event + rng.randrange(4000)])
        key = (rng.choice("abcdefghijklmnop"), rng.randrange(3))
        rows[key, event, created] = Row(
            key=key, event=event, created=created, revision=rng.randrange(3), value=n
        )
    spine = tuple(
        ((rng.choice("abcdefghijklmnopq"), rng.randrange(3)), rng.randrange(11_000))
        for _ in range(150)
    )
    case = Case(
        rows=tuple(rows.values()),
        spine=spine,
        key_dtypes=("string", "int32"),
        ttl=1500,
        delay=20,
    )
    values = expected(case)
    assert case.answer().to_polars()["value"].to_list() == values
    assert len(set(values)) > 100
    by_event = expected(case, as_known=False)
    assert case.answer(as_known=False).to_polars()["value"].to_list() == by_event
    assert by_event != values


def test_a_hundred_shuffles_give_one_answer() -> None:
    """Ties in event and created time resolve the same way, whatever the order of the input."""
    rng = random.Random(7)
    rows = [
        Row(key=(key,), event=event, created=created, revision=revision, value=rng.randrange(10**6))
        for key in "ab"
        for event in (5, 6)
        for created in (None, 5, 8)
        for revision in (0, 1)
    ]
    case = Case(
        rows=tuple(rows),
        spine=tuple(((key,), t) for key in "abc" for t in (4, 5, 6, 7, 8, 9)),
        key_dtypes=("string",),
        ttl=None,
        delay=0,
    )
    first = case.answer().features
    assert first["value"].to_list() == expected(case)
    for _ in range(100):
        rng.shuffle(rows)
        assert case.answer(rows).features.equals(first)
