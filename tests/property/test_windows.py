"""Windows in training against an oracle that is too simple to be wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.spans import Events, superseded
from featurestore.engine.windows import Asked, window_values
from featurestore.model.documents import Function, Window
from featurestore.model.schema import parse_dtype
from featurestore.model.windows import TAKES, output_of, tail
from tests.columns import bits, values

LOWEST, NEVER = -(2**63), 2**63 - 1
HUGE, TINY = Fraction(2**1024 - 2**970), Fraction(1, 2**1000)
HOUR = 3_600_000_000
ORIGINS = (-62_135_596_800_000_000, -1, 0, 1_356_998_400_000_000, 253_402_300_799_000_000)
FUNCTIONS = get_args(Function)


@dataclass(frozen=True)
class Row:
    """One stored row of a key; `number` tells events apart, times are microseconds."""

    key: int
    number: int
    event: int
    created: int | None
    revision: int
    value: Any
    delay: int = 0

    @property
    def known(self) -> int:
        return max(self.event + self.delay, LOWEST if self.created is None else self.created)

    @property
    def version(self) -> tuple[int, int, int]:
        return (LOWEST if self.created is None else self.created, self.revision, self.event)

    @property
    def order(self) -> tuple[int, ...]:
        return (self.event, *self.version[:2], self.number)


@dataclass(frozen=True)
class Case:
    """Rows in deciding order, questions (key, moment) and features; versions only with ids."""

    rows: tuple[Row, ...]
    keys: int
    questions: tuple[tuple[int, int], ...]
    asked: tuple[Asked, ...]
    dtype: str
    ids: bool

    def answers(self) -> list[pl.Series]:
        """Give what the kernel answers."""
        of_key = integers(row.key for row in self.rows)
        event = integers(row.event for row in self.rows)
        known = integers(row.known for row in self.rows)
        gone = superseded(
            key=of_key,
            number=integers(row.number for row in self.rows),
            created=integers(row.version[0] for row in self.rows),
            revision=integers(row.revision for row in self.rows),
            event=event,
            known=known,
        )
        events = Events(
            starts=np.searchsorted(of_key, np.arange(self.keys + 1)),
            event=event,
            known=known,
            gone=gone if self.ids else None,
        )
        column = pl.Series("x", [row.value for row in self.rows], parse_dtype(self.dtype))
        frame = pl.DataFrame([column, column.alias("y")])
        key = integers(key for key, _ in self.questions)
        at = integers(at for _, at in self.questions)
        return window_values(events, key, at, self.asked, frame.select)

    def inputs(self, key: int, at: int, window: Window) -> list[Any]:
        """Give the inputs that a window counts, in order, as the meaning of windows has it."""
        known = [row for row in self.rows if row.key == key and row.known <= at]
        if self.ids:
            newest: dict[int, Row] = {}
            for row in known:
                other = newest.get(row.number)
                if other is None or other.version <= row.version:
                    newest[row.number] = row
            known = list(newest.values())
        covered = [row for row in known if tail(at, window) <= row.event <= at]
        covered.sort(key=lambda row: row.order)
        return [row.value for row in covered if row.value is not None]


def integers(found) -> np.ndarray:
    return np.fromiter(found, np.int64)


def expected(function: Function, dtype: str, found: Sequence[Any]) -> Any:
    """Give what a function gives of inputs, without any rounding on the way."""
    if function == "count":
        return len(found)
    if function == "sum":
        if output_of(function, dtype) == "float64":
            return total_of(found)
        total = sum(int(value) for value in found)
        return total if LOWEST <= total <= NEVER else None
    if len(found) < (2 if function in ("var", "std") else 1):
        return None
    spread = function in ("var", "std")
    return variance(found, root=function == "std") if spread else picked(function, found)


def picked(function: Function, found: Sequence[Any]) -> Any:
    """Give the mean, or one of the inputs by place or size: NaN comes last, 0.0 is -0.0."""
    if function == "mean":
        return total_of(found) / len(found)
    if function in ("first", "last"):
        return found[0 if function == "first" else -1]
    numbers = [value for value in found if value == value]  # noqa: PLR0124 - NaN differs
    best = (min if function == "min" else max)(numbers) if numbers else math.nan
    return best + 0.0 if isinstance(best, float) else best


def total_of(found: Sequence[Any]) -> float:
    """Give the sum, rounded once; what is not finite as floats add it."""
    odd = {value for value in found if not math.isfinite(value)}
    if odd:
        return odd.pop() if len(odd) == 1 else math.nan
    total = sum((Fraction(value) for value in found), Fraction(0))
    return float(total) if abs(total) < HUGE else math.copysign(math.inf, total)


def variance(found: Sequence[Any], *, root: bool) -> float:
    """Give the sample variance (or its root), rounded once; NaN for what is not finite."""
    if not all(math.isfinite(value) for value in found):
        return math.nan
    numbers = [Fraction(value) for value in found]
    spread = len(found) * sum(one * one for one in numbers) - sum(numbers) ** 2
    exact = spread / (len(found) * (len(found) - 1))
    if max(len(found) * sum(one * one for one in numbers), sum(numbers) ** 2) >= HUGE:
        return math.nan
    return math.sqrt(exact) if root else float(exact)


def agrees(function: Function, found: Sequence[Any], got: Any, want: Any) -> bool:
    """Say whether an answer is right: to the bit, but for digits no pair of floats can hold."""
    if not isinstance(got, float) or got is None or want is None:
        return type(got) is type(want) and got == want
    if repr(got) == repr(want) or function in ("min", "max", "first", "last"):
        return repr(got) == repr(want)
    if not all(math.isfinite(value) for value in (*found, got, want)):
        return False
    numbers = [abs(Fraction(value)) for value in found]
    if function in ("var", "std"):
        squares = sum(one * one for one in numbers) / len(found)
        power = 1 if function == "var" else 2
        return abs(Fraction(got) ** power - Fraction(want) ** power) <= squares / 10**9 + TINY
    if not wide(numbers):
        return False
    return abs(Fraction(got) - Fraction(want)) <= sum(numbers) / 10**9


def wide(numbers: Sequence[Fraction]) -> bool:
    """Say whether the digits of a sum span more than the 100 bits within which sums are exact."""
    scaled = [int(one * 2**1074) for one in numbers if one]
    return sum(scaled).bit_length() - min((one & -one).bit_length() for one in scaled) >= 100


def floats(width: int) -> st.SearchStrategy[float]:
    """Give floats of one magnitude, whole ones, and wild ones."""
    calm = st.floats(-1000, 1000, width=width)
    whole = st.integers(-1000, 1000).map(float)
    odd = st.sampled_from([math.inf, -math.inf, math.nan, 0.0, -0.0])
    return calm | whole | odd | st.floats(width=width)


@st.composite
def cases(draw: st.DrawFn, *, ids: bool | None = None) -> Case:
    """Give some rows of few keys on a coarse clock, so that moments tie, and questions."""
    dtype = draw(st.sampled_from(sorted(TAKES["first"])))
    width = 32 if dtype == "float32" else 64
    value = st.none() | floats(width) if dtype.startswith("float") else values(dtype)
    clock, origin = draw(st.sampled_from([1, 7, HOUR])), draw(st.sampled_from(ORIGINS))
    tick = st.integers(-12, 12).map(lambda n: origin + n * clock)
    late = st.none() | st.integers(-3, 8) | st.sampled_from([0, 0, 40])
    keys, delay = draw(st.integers(1, 3)), clock * draw(st.sampled_from([0, 0, 1, 3]))
    rows = []
    for _ in range(draw(st.integers(0, 24))):
        event, lateness = draw(tick), draw(late)
        created = None if lateness is None else event + lateness * clock
        row = Row(
            key=draw(st.integers(0, keys - 1)),
            number=draw(st.integers(-3, 3)),
            event=event,
            created=created,
            revision=draw(st.integers(0, 2)),
            value=draw(value),
            delay=delay,
        )
        rows.append(row)
    asked = []
    for number in range(draw(st.integers(1, 6))):
        length = draw(st.integers(1, 30))
        every = draw(st.integers(1, length))
        of = draw(
            st.sampled_from([one for one in FUNCTIONS if one == "count" or dtype in TAKES[one]])
        )
        window = Window(function=of, length=length * clock, every=every * clock, dtype=dtype)
        asked.append(Asked(window=window, input=draw(st.sampled_from("xy")), name=f"f{number}"))
    moment = tick | tick.map(lambda at: at + 1) | tick.map(lambda at: at + 40 * clock)
    question = st.tuples(st.integers(-1, keys - 1), moment)
    return Case(
        rows=tuple(sorted(rows, key=lambda row: (row.key, row.order))),
        keys=keys,
        questions=tuple(draw(st.lists(question, max_size=12))),
        asked=tuple(asked),
        dtype=dtype,
        ids=draw(st.booleans()) if ids is None else ids,
    )


@settings(max_examples=150)
@given(case=cases())
def test_every_answer_is_what_its_window_covers(case):
    """Any function of any input, of late, corrected and repeated events, equals the oracle's."""
    for one, column in zip(case.asked, case.answers(), strict=True):
        assert column.name == one.name
        assert column.dtype == parse_dtype(output_of(one.window.function, case.dtype))
        assert len(column) == len(case.questions)
        for (key, at), got in zip(case.questions, column.to_list(), strict=True):
            found = case.inputs(key, at, one.window)
            want = expected(one.window.function, case.dtype, found)
            assert agrees(one.window.function, found, got, want), (one, key, at, found, got, want)


@settings(max_examples=60)
@given(case=cases(), data=st.data())
def test_what_becomes_known_later_changes_nothing(case, data):
    """Leaving out all rows that become known after a moment gives the same bits at that moment."""
    at = data.draw(st.sampled_from([at for _, at in case.questions] or [0]))
    asked = tuple((key, at) for key in range(-1, case.keys))
    known = tuple(row for row in case.rows if row.known <= at)
    full, short = (replace(case, questions=asked, rows=rows) for rows in (case.rows, known))
    for one, other in zip(full.answers(), short.answers(), strict=True):
        assert bits(one) == bits(other)


@settings(max_examples=40)
@given(case=cases(ids=False), data=st.data())
def test_the_order_of_questions_does_not_matter(case, data):
    """Each answer has the same bits whatever else is asked beside it."""
    order = data.draw(st.permutations(range(len(case.questions))))
    half = order[: len(order) // 2]
    other = replace(case, questions=tuple(case.questions[place] for place in half))
    for one, some in zip(case.answers(), other.answers(), strict=True):
        assert bits(one.gather(half)) == bits(some)
