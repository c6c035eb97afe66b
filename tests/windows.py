"""Views of windows, rows of events, and what plain Python answers of them."""

import math
from fractions import Fraction

import numpy as np
import polars as pl

from featurestore.engine.answers import answers
from featurestore.engine.questions import asking
from featurestore.model.documents import Expression, Feature, Spelling, View, Window
from featurestore.model.schema import INTEGERS, SCALARS, Column
from featurestore.model.tiles import plan_of
from featurestore.model.time import CREATED, EVENT, KNOWN, MOMENT, REVISION
from featurestore.model.windows import NUMBER, TAKES, input_name, output_of, tail
from featurestore.storage.fixed import Group, restore

FUNCTIONS = tuple(TAKES)


def feature(function, dtype, length, every, *, of=0):
    """Describe a window feature; those of one dtype and `of` share an input."""
    spelling = Spelling(dialect="test", data=f"{dtype} {of}".encode())
    return Feature(
        id="",
        name=f"{function}_{dtype}_{of}_{length}_{every}",
        dtype=output_of(function, dtype),
        expression=Expression(spellings=(spelling,)),
        reads=(),
        window=Window(function=function, length=length, every=every, dtype=dtype),
    )


def view(*features, event_id="id"):
    """Describe a view of window features."""
    return View(
        id="v", data_id="d", frame_id="f", name="w", kind="batch", features=features,
        event_id=event_id,
    )  # fmt: skip


def served(of, states, at, features=None):
    """Give what states answer of each window feature: one value per entity, and which are there."""
    features = of.features if features is None else features
    blocks = answers(asking(plan_of(of), features), states, at)
    found = {
        name: (block.values[row], block.valid[row])
        for block in blocks
        for row, name in enumerate(block.names)
    }
    return [found[one.name] for one in features]


def column(one, found):
    """Give an answer as a column of the feature's dtype, null where there is no value."""
    values, valid = found
    group = Group(
        dtype=one.dtype,
        names=(one.name,),
        values=values[:, None],
        valid=valid[:, None],
        inner_valid=None,
    )
    return restore(Column(name=one.name, dtype=one.dtype), group)


def frame(of, events):
    """Give the rows of events: dicts of event, created, known, revision, number and inputs."""
    inputs = {input_name(one): one.window.dtype for one in of.features}
    schema = {
        EVENT: ("event", pl.Int64()),
        CREATED: ("created", pl.Int64()),
        KNOWN: ("known", pl.Int64()),
        REVISION: ("revision", pl.UInt32()),
        NUMBER: ("number", pl.Int64()),
    }
    columns = [
        pl.Series(name, [event[key] for event in events], dtype)
        for name, (key, dtype) in schema.items()
    ]
    for name, dtype in inputs.items():
        cells = [event["inputs"][dtype] for event in events]
        physical = {"date": pl.Int32(), "datetime": pl.Int64()}.get(dtype, SCALARS[dtype])
        columns.append(pl.Series(name, cells, physical).cast(SCALARS[dtype]))
    return pl.DataFrame(columns).with_columns(pl.col(EVENT, CREATED, KNOWN).cast(MOMENT))


def rank(event):
    """Give what makes one version of an event greater than another."""
    created = -(2**63) if event["created"] is None else event["created"]
    return created, event["revision"], event["event"]


def order(event):
    """Give the place of an event among those of its entity."""
    created, revision, at = rank(event)
    return at, created, revision, event["number"]


def counted(events, *, versions):
    """Give the events that count: the greatest version of each, by time."""
    best = {}
    for at, event in enumerate(events):
        key = event["number"] if versions else at
        if key not in best or rank(event) >= rank(best[key]):
            best[key] = event
    return sorted(best.values(), key=order)


def answer(one, events, at):
    """Give a window of events that count; None for null, floats within what `scale` says."""
    window = one.window
    found = [e["inputs"][window.dtype] for e in events if tail(at, window) <= e["event"] <= at]
    found = [value for value in found if value is not None]
    if window.dtype == "float32":
        found = [float(np.float32(value)) for value in found]
    match window.function:
        case "count":
            return len(found)
        case "first" | "last":
            return found[0 if window.function == "first" else -1] if found else None
        case "min" | "max":
            pick = min if window.function == "min" else max
            real = [value for value in found if value == value]  # noqa: PLR0124
            return pick(real) + 0 if real else math.nan if found else None
        case "sum":
            return total(found, whole=window.dtype in INTEGERS or window.dtype == "bool")
        case "mean":
            return rounded(total(found), len(found))
        case function:
            return spread(found, root=function == "std")


def total(values, *, whole=False):
    """Give an exact sum: an integer that fits int64, else a Fraction, or what is not finite."""
    if not whole and not all(map(math.isfinite, values)):
        return sum(value for value in values if not math.isfinite(value))
    added = sum(map(Fraction, values), Fraction(0))
    if whole:
        return int(added) if -(2**63) <= added < 2**63 else None
    return to_float(added)


def rounded(added, count):
    """Give a mean: the sum as float64, divided."""
    return added / count if count else None


def to_float(number):
    """Round a Fraction to float64."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def spread(values, *, root):
    """Give a variance or deviation, rounded once; NaN where something is not finite."""
    if len(values) < 2:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    numbers = [*map(Fraction, values)]
    mean = sum(numbers) / len(numbers)
    variance = to_float(sum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1))
    return math.sqrt(variance) if root else variance
