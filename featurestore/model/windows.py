"""Window features: what they cover and give, and what a table stores so that they can be computed.

A window at a moment t covers the events of a key from `floor(t - length, every)` to t that are
known at t. Tables store no window's value: they store its input, a ROW expression that is null
where the window's filter is not true, and a number that tells events of one moment apart.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from featurestore.model.documents import Feature, Function, View, Window
from featurestore.model.fingerprint import digest
from featurestore.model.schema import INTEGERS, NUMBERS, SCALARS, Column
from featurestore.model.time import CREATED, EVENT, REVISION
from featurestore.model.words import span

NUMBER = "__event"
"""The stored column that tells events apart: of a view with `event_id` a number made of the id
(integers as they are, else a hash), else the place among rows of one key and time, by their bytes.
"""

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
_EVERY = ((12 * DAY, DAY), (12 * HOUR, HOUR))

_ADDED: frozenset[str] = NUMBERS | {"bool"}
_ORDERED: frozenset[str] = _ADDED | {"date", "datetime"}
TAKES: Mapping[Function, frozenset[str]] = MappingProxyType(
    {
        "count": frozenset({"bool"}),
        "sum": _ADDED,
        "mean": _ADDED,
        "std": _ADDED,
        "var": _ADDED,
        "min": _ORDERED,
        "max": _ORDERED,
        "first": _ORDERED,
        "last": _ORDERED,
    }
)
"""The dtypes of inputs that each function takes; what is counted is stored as Boolean."""

assert frozenset(SCALARS) >= _ORDERED


def output_of(function: Function, dtype: str) -> str:
    """Give the dtype of what a function gives over inputs of a dtype.

    Counts and sums of integers and Booleans are int64, sums of floats and all means, deviations and
    variances float64; the rest gives an input's own dtype.
    """
    if function == "count":
        return "int64"
    if function == "sum":
        return "int64" if dtype in INTEGERS or dtype == "bool" else "float64"
    return "float64" if function in ("mean", "std", "var") else dtype


def every_of(length: int) -> int:
    """Give how finely a window's tail moves if nobody says: as Chronon does, microseconds.

    A day from 12 days up, an hour from 12 hours up, else five minutes; never more than the length.
    """
    usual = (every for least, every in _EVERY if length >= least)
    return min(next(usual, 5 * MINUTE), length)


def tail(moment: int, window: Window) -> int:
    """Give the first moment that a window covers at a moment; both UTC microseconds."""
    return (moment - window.length) // window.every * window.every


def described(feature: Feature) -> str:
    """Say in words what of its rows a feature is: `mean over 7d every 1h`."""
    one = feature.window
    if one is None:
        return "of its own row"
    return f"{one.function} over {span(one.length)} every {span(one.every)}"


@lru_cache(maxsize=1024)
def windows(view: View) -> tuple[Feature, ...]:
    """Give a view's window features."""
    return tuple(feature for feature in view.features if feature.window is not None)


def row_features(view: View) -> tuple[Feature, ...]:
    """Give a view's features whose values are stored as they are."""
    return tuple(feature for feature in view.features if feature.window is None)


def input_name(feature: Feature) -> str:
    """Name the stored column that a window is computed of; equal inputs share one."""
    assert feature.window is not None
    reads = tuple((column.name, column.dtype) for column in feature.reads)
    data = feature.expression.spellings[0].data
    return f"__in_{digest('input', feature.window.dtype, reads, data)[:16]}"


def stored_features(view: View) -> tuple[Feature, ...]:
    """Give what is computed of a source row and stored: features, then the inputs of windows."""
    inputs = {input_name(one): one for one in windows(view)}
    return (
        *row_features(view),
        *(
            replace(one, name=name, dtype=one.window.dtype, window=None)
            for name, one in sorted(inputs.items())
            if one.window is not None
        ),
    )


def stored_columns(view: View) -> tuple[Column, ...]:
    """Give the columns that a view's table has beside keys, times and revision."""
    columns = tuple(Column(name=one.name, dtype=one.dtype) for one in stored_features(view))
    return (*columns, *(Column(name=name, dtype="int64") for name in _number(view)))


def stored_names(view: View, names: Sequence[str]) -> tuple[str, ...]:
    """Name the stored columns that some features are read from, each once."""
    found: dict[str, None] = {}
    for feature in view.features:
        if feature.name in names:
            found[feature.name if feature.window is None else input_name(feature)] = None
    return tuple(found)


def numbered(view: View) -> bool:
    """Say whether a view's events are told apart by an id, so that windows count each once."""
    return view.event_id is not None and bool(windows(view))


def row_identity(view: View) -> tuple[str, ...]:
    """Name the columns that tell the rows of a view apart, of one state of its source."""
    return (*(key.name for key in view.join_keys), EVENT, CREATED, *_number(view))


def row_order(view: View) -> tuple[str, ...]:
    """Name the columns in whose order a key's stored rows answer, its join keys first."""
    return (*(key.name for key in view.join_keys), EVENT, CREATED, REVISION, *_number(view))


def _number(view: View) -> tuple[str, ...]:
    return (NUMBER,) if windows(view) else ()


def reach(features: Iterable[Feature]) -> int:
    """Give how far back from a moment windows among features reach at most, microseconds."""
    return max((one.window.length + one.window.every for one in features if one.window), default=0)


def age(view: View, asked: Collection[str]) -> int | None:
    """Give how old an event may be and still count for some features, None for no bound; in µs."""
    features = [feature for feature in view.features if feature.name in asked]
    if all(feature.window is not None for feature in features):
        return reach(features)
    return None if view.ttl is None else max(view.ttl, reach(features))
