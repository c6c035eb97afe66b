"""Windows of a training set against an oracle that is too simple to be wrong."""

import math
import random
from dataclasses import dataclass, replace
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.executor import Executor
from featurestore.model.declare import Aggregate, batch_view
from featurestore.model.documents import Source, View, Window
from featurestore.model.schema import Column
from featurestore.model.time import CREATED, EVENT, MOMENT, REVISION
from featurestore.model.windows import NUMBER, input_name
from featurestore.training import TrainingSet, training_set
from tests.oracle import Event, alike, answer, covered
from tests.tables import Memory, ask, stored

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")

DTYPES = {"x": "float64", "n": "int64", "flag": "bool"}
FUNCTIONS = ("count", "sum", "mean", "std", "var", "min", "max", "first", "last")
FLOATS = [0.0, -0.0, 1.5, -2.25, 1e16, -1e16, 1e300, 5e-324, math.inf, -math.inf, math.nan]
ORIGINS = (-62_135_596_800_000_000, -7, 0, 1_356_998_400_000_000, 1_382_832_000_000_000)
"""The years 1 and 1970 with its eve, a New Year, and the hour that Berlin's clocks repeat."""


@dataclass(frozen=True)
class Case:
    """Events, entity rows (key, moment), windows (input, function, length, every) and rules."""

    events: tuple[Event, ...]
    spine: tuple[tuple[str | None, int | None], ...]
    windows: tuple[tuple[str, str, int, int], ...]
    delay: int
    versions: bool

    @property
    def view(self) -> View:
        columns = {"key": "string", "at": "datetime", "made": "datetime", "id": "int64", **DTYPES}
        return batch_view(
            name="plane",
            join_keys={"key": None},
            source=Source(
                name="events",
                path="events.parquet",
                format="parquet",
                timestamp_field="at",
                created_field="made",
                columns=tuple(Column(name=n, dtype=d) for n, d in columns.items()),
            ),
            features={
                f"w{at}": Aggregate(
                    function=function,
                    of=pl.col(column),
                    filter=None,
                    length=timedelta(microseconds=length),
                    every=timedelta(microseconds=every),
                )
                for at, (column, function, length, every) in enumerate(self.windows)
            },
            delay=timedelta(microseconds=self.delay),
            event_id="id" if self.versions else None,
        )

    def table(self, view: View) -> pl.DataFrame:
        inputs = {
            input_name(feature): [
                one.inputs[column] is not None or None
                if function == "count"
                else one.inputs[column]
                for one in self.events
            ]
            for feature, (column, function, _, _) in zip(view.features, self.windows, strict=True)
        }
        return stored(
            view,
            {
                "key": [one.key for one in self.events],
                EVENT: [one.event for one in self.events],
                CREATED: [one.created for one in self.events],
                REVISION: [one.revision for one in self.events],
                NUMBER: [one.number for one in self.events],
                **inputs,
            },
        )

    @property
    def entities(self) -> pl.DataFrame:
        keys = pl.Series("key", [key for key, _ in self.spine], dtype=pl.String)
        return pl.DataFrame([keys, pl.Series(EVENT, [t for _, t in self.spine], dtype=MOMENT)])

    def answer(
        self, *, as_known: bool = True, buckets: int = 1, executor: Executor | None = None
    ) -> TrainingSet:
        view = self.view
        return training_set(
            self.entities,
            ask(view),
            Memory(frames={"plane": self.table(view)}, buckets=buckets),
            project="tests",
            as_known=as_known,
            executor=executor,
        )


def check(case: Case, frame: pl.DataFrame, *, as_known: bool = True) -> None:
    """Compare every value with the oracle's."""
    for at, (feature, (column, *_)) in enumerate(
        zip(case.view.features, case.windows, strict=True)
    ):
        assert isinstance(feature.window, Window)
        for row, (key, t) in enumerate(case.spine):
            found = frame[f"w{at}"][row]
            if key is None or t is None:
                assert found is None
                continue
            rows = covered(
                case.events,
                key,
                t,
                feature.window,
                delay=case.delay,
                versions=case.versions,
                as_known=as_known,
            )
            expected, within = answer(feature.window, [one.inputs[column] for one in rows])
            assert alike(found, expected, within), (feature.window, key, t, found, expected)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few keys and few moments, so that ties, edges, late and corrected events are the rule."""
    origin = draw(st.sampled_from(ORIGINS))
    moments = st.integers(origin, origin + 16)
    versions = draw(st.booleans())
    inputs = st.fixed_dictionaries(
        {
            "x": st.none() | st.sampled_from(FLOATS) | st.floats(-1e3, 1e3),
            "n": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3),
            "flag": st.sampled_from([True, False, None]),
        }
    )
    rows = draw(
        st.lists(
            st.builds(
                Event,
                key=st.sampled_from(["a", "b"]),
                event=moments,
                created=st.none() | moments,
                revision=st.integers(0, 1),
                number=st.integers(0, 5),
                inputs=inputs,
            ),
            max_size=14,
            unique_by=lambda one: (
                one.key,
                one.number,
                one.created,
                one.revision,
                one.event,
            ),
        )
    )
    length = st.integers(1, 14)
    window = st.tuples(
        st.sampled_from(sorted(DTYPES)), st.sampled_from(FUNCTIONS), length, st.integers(1, 5)
    )
    windows = draw(st.lists(window, min_size=1, max_size=4))
    return Case(
        events=tuple(rows),
        spine=tuple(
            draw(
                st.lists(
                    st.tuples(st.sampled_from(["a", "b", "c", None]), st.none() | moments),
                    max_size=8,
                )
            )
        ),
        windows=tuple((c, f, length, min(every, length)) for c, f, length, every in windows),
        delay=draw(st.sampled_from([0, 0, 2])),
        versions=versions,
    )


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans(), st.sampled_from([1, 2, 8]))
def test_every_window_is_the_oracles(case: Case, as_known: bool, buckets: int) -> None:
    """A window covers the events from its snapped tail to its moment, as they are known then."""
    frame = case.answer(as_known=as_known, buckets=buckets).to_polars()
    check(case, frame, as_known=as_known)


@settings(max_examples=30, deadline=None)
@given(cases(), st.integers(1, 9))
def test_nothing_after_a_moment_changes_its_windows(case: Case, later: int) -> None:
    """Events and corrections that come to be known after every entity row never show."""
    last = max([t for _, t in case.spine if t is not None], default=0)
    future = [
        replace(one, created=last + later + at, revision=9) for at, one in enumerate(case.events)
    ]
    more = replace(case, events=(*case.events, *future))
    assert more.answer().features.equals(case.answer().features)


@settings(max_examples=30, deadline=None)
@given(cases(), st.randoms(use_true_random=False))
def test_the_order_of_stored_events_does_not_matter(case: Case, rng: random.Random) -> None:
    """Shuffled tables give the same bits."""
    shuffled = list(case.events)
    rng.shuffle(shuffled)
    again = replace(case, events=tuple(shuffled)).answer().features
    assert again.equals(case.answer().features)
