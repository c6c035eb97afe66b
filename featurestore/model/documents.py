"""The nouns: immutable documents that describe sources, views, services and releases.

Every document is a frozen dataclass of plain values; `dump` and `load` write and read it as JSON.
Nothing in a document is ever executed: expressions are bytes, walked against the allow-list
(`model.expressions`) before use. Durations and times are integer microseconds (UTC).
"""

import json
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_origin

from cattrs import BaseValidationError, transform_error
from cattrs.preconf.json import JsonConverter, make_converter

from featurestore.model.schema import Column

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """The bytes of one expression in one Polars dialect (`polars-2.1`)."""

    dialect: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """One expression with its bytes per dialect; the first spelling gave the identity."""

    spellings: tuple[Spelling, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What people read; never part of an identity."""

    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a view's raw rows come from.

    `columns` is the schema after normalization (names after `field_mapping`, which holds pairs of
    column in the file and name in expressions; every datetime is UTC microseconds).
    `path` is as the user wrote it: absolute, relative to the repo, or a URL. `pushed` says that the
    logical source is a Feast PushSource over this batch source.
    """

    name: str
    path: str
    format: Literal["parquet", "delta"]
    timestamp_field: str
    created_field: str | None = None
    field_mapping: tuple[tuple[str, str], ...] = ()
    time_zone: str | None = None
    pushed: bool = False
    columns: tuple[Column, ...] = ()
    info: Info = Info()


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A use of a view: `join_key_map` holds pairs (the view's join key, the caller's column)."""

    view: str
    alias: str
    join_key_map: tuple[tuple[str, str], ...] = ()
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A column that an on-demand feature reads.

    `column` is the name in the expression: a feature's or request field's plain name, or
    `alias__feature`. `projection` is the alias of the projection it comes from, None for request
    data; `feature` the feature's or request field's name there.
    """

    column: str
    dtype: str
    projection: str | None
    feature: str
    feature_id: str | None = None


Function = Literal["count", "sum", "mean", "std", "var", "min", "max", "first", "last"]
"""What a window computes of the inputs that are not null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What makes a feature of many rows: at a moment t those from floor(t - length, every) to t.

    `length` and `every` are microseconds, `dtype` is that of the input, which the feature's
    expression gives for each row (see `model.windows`).
    """

    function: Function
    length: int
    every: int
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature: an expression with one output; `reads` are the columns it names, sorted.

    Without a `window` the expression's output is the feature's value, else the window's input.
    """

    id: str
    name: str
    dtype: str
    expression: Expression
    reads: tuple[Column, ...]
    window: Window | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class View:
    """A feature view (kind `batch`: rows of a source) or an on-demand view (computed at request).

    `join_keys` are sorted by name and carry the declared key dtypes; an entity-less view has none.
    `ttl` None means no bound. `delay`, `settle` and `ttl` are microseconds. `known_at` says whether
    the created column counts. For `on_demand`, `projections`, `request` and `inputs` are set and
    `source` is None; `data_id` is then empty.
    """

    id: str
    data_id: str
    frame_id: str
    name: str
    kind: Literal["batch", "on_demand"]
    join_keys: tuple[Column, ...] = ()
    features: tuple[Feature, ...]
    source: Source | None = None
    filter: Expression | None = None
    filter_reads: tuple[Column, ...] = ()
    known_at: Literal["created", "event"] = "created"
    delay: int = 0
    settle: int = 3_600_000_000
    event_id: str | None = None
    ttl: int | None = None
    projections: tuple[Projection, ...] = ()
    request: tuple[Column, ...] = ()
    inputs: tuple[Input, ...] = ()
    info: Info = Info()

    def __hash__(self) -> int:
        """Hash the ids, which are digests of what counts: not all of a large document."""
        return hash((self.id, self.data_id))

    @property
    def version(self) -> str:
        """The version as people write it: `plane_history@7f3a9c1e04b2`."""
        return f"{self.name}@{self.id[:12]}"

    def __repr__(self) -> str:
        of = ", ".join(key.name for key in self.join_keys)
        names = ", ".join(feature.name for feature in self.features)
        return f"<View {self.version}{of and ' of '}{of}: {names}>"

    def feature(self, name: str) -> Feature | None:
        """Give the feature of that name, or None."""
        return next((f for f in self.features if f.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Service:
    """What one model asks for: projections in order, each with its features in order."""

    id: str
    name: str
    projections: tuple[Projection, ...]
    info: Info = Info()

    def __repr__(self) -> str:
        uses = ", ".join(projection.alias for projection in self.projections)
        return f"<Service {self.name}@{self.id[:12]}: {uses}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """All that one repo defines, as the loader hands it back."""

    name: str
    views: tuple[View, ...]
    services: tuple[Service, ...]
    dialect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One physical copy of a version's data.

    `buckets` is a power of two; `period` is how much known-at time a partition holds, microseconds,
    None for all. Both are fixed for the table.
    """

    data_id: str
    generation: int
    buckets: int = 1
    period: int | None = None

    @property
    def id(self) -> str:
        """The table's id: data id (16 hex digits) and generation, `7f3a9c1e04b2aa10.0`."""
        return f"{self.data_id[:16]}.{self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A view in a release, with its table and watermark (UTC microseconds) if it stores rows."""

    view: View
    table: Table | None = None
    watermark: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Release:
    """An immutable numbered document that holds all a server needs to answer.

    `views` are what references and services mean. `warm` are other versions that locks and releases
    demoted of late may still be answered from. `restores` is the number of the release that a
    rollback went back to.
    """

    project: str
    number: int
    views: tuple[LiveView, ...]
    services: tuple[Service, ...]
    created: int
    warm: tuple[LiveView, ...] = ()
    restores: int | None = None

    def __repr__(self) -> str:
        views = ", ".join(live.view.version for live in self.views)
        return f"<Release {self.number} of {self.project}: {views}>"


def _converter() -> JsonConverter:
    """Make a converter that takes each field as it is written, or not at all: `"7"` is no number.

    Left alone, cattrs calls `int`, `str`, `bool` and `tuple` on whatever it finds.
    """
    made = make_converter(forbid_extra_keys=True)
    of_list = made.get_structure_hook(tuple[str, ...])

    def listed(value: object, kind: type[T]) -> T:
        found: T = of_list(_exactly(value, list), kind)
        return found

    for kind in (bool, int, str):
        made.register_structure_hook(kind, _exactly)
    made.register_structure_hook_func(_is_tuple, listed)
    return made


def _is_tuple(kind: object) -> bool:
    return get_origin(kind) is tuple


def _exactly(value: object, kind: type[T]) -> T:
    if type(value) is not kind:
        raise TypeError
    return value


_CONVERTER = _converter()


def dump(document: Any) -> str:
    """Write a document as JSON: sorted keys, no spaces, so that equal documents give equal text."""
    plain = _CONVERTER.unstructure(document)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def load(text: str | bytes, kind: type[T]) -> T:
    """Read a document of a kind back from JSON.

    Raises:
        ValueError: the text is not JSON, or has missing, extra or mistyped fields.
    """
    try:
        return _CONVERTER.loads(text, kind)
    except BaseValidationError as error:
        raise ValueError(f"{kind.__name__}: {'; '.join(transform_error(error))}") from error
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{kind.__name__}: the text is no JSON object") from error
