"""The answer: training rows in any frame a notebook speaks, with their lock."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from featurestore.model.documents import View
from featurestore.model.lock import Lock, LockedLookup
from featurestore.model.query import Query
from featurestore.training.assemble import check_coverage, gather_lookups, outputs
from featurestore.training.lock import make_lock
from featurestore.training.spine import Spine, read_spine
from featurestore.training.tables import Tables

WITHHELD_SHARE = 0.2
"""Above this share of a lookup's values, known-at is more likely misunderstood than needed."""

_LISTED = 16
_WIDTH = 80
_LEAST = 28


class WithheldWarning(UserWarning):
    """Known-at withheld so many values that a created column may say when a bulk load ran."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TrainingSet:
    """The entity rows as they came, followed by the outputs; one row out for each row in.

    `features` holds the outputs alone, in order. `event_times` has one column per lookup of the
    query (UTC microseconds, named by alias): the event time of the row that was found, kept when
    the ttl expired its values, null where none was known.
    """

    spine: Spine
    features: pl.DataFrame
    event_times: tuple[pl.Series, ...]
    lock: Lock

    @property
    def withheld(self) -> Mapping[str, int]:
        """Count, per alias, the entity rows whose value by event time was not yet known."""
        counts: Counter[str] = Counter()
        for one in self.lock.lookups:
            counts[one.alias] += one.withheld
        return dict(counts)

    def to_polars(self) -> pl.DataFrame:
        """Give the rows as a Polars frame."""
        return self.spine.frame.hstack(self.features)

    def to_arrow(self) -> Any:
        """Give the rows as a pyarrow table; own columns that came in one are kept as they were."""
        if not self.spine.came_from("pyarrow"):
            return self.to_polars().to_arrow()
        table, features = self.spine.origin, self.features.to_arrow()
        for name in features.column_names:
            table = table.append_column(features.schema.field(name), features[name])
        return table

    def to_df(self) -> Any:
        """Give the rows as a pandas frame with a fresh index; pandas is imported here.

        Own columns that came in a pandas frame are kept as they were. A missing value is what
        pandas makes of it: NaN in numbers, None in strings.
        """
        if not self.spine.came_from("pandas"):
            return self.to_polars().to_pandas()
        return self.spine.origin.reset_index(drop=True).join(self.features.to_pandas())

    def __len__(self) -> int:
        return len(self.spine)

    def __repr__(self) -> str:
        own = len(self.spine.frame.columns)
        draft = ", draft" if self.lock.draft else ""
        title = f"{len(self):,} rows: {own} own columns, {len(self.lock.outputs)} features{draft}"
        versions = {one.id: f"{one.name}@{one.id[:12]}" for one in self.lock.views}
        shown = [
            (one.name, one.dtype, versions[one.version]) for one in self.lock.outputs[:_LISTED]
        ]
        dtype, version = (max((len(row[n]) for row in shown), default=0) for n in (1, 2))
        room = max(_LEAST, _WIDTH - len("  " * 3) - dtype - version)
        name = min(max((len(row[0]) for row in shown), default=0), room)
        lines = [
            f"  {_fit(row[0], name)}  {row[1]:<{dtype}}  {row[2]}"[:_WIDTH].rstrip()
            for row in shown
        ]
        if len(self.lock.outputs) > _LISTED:
            lines.append(f"  … and {len(self.lock.outputs) - _LISTED} more")
        return "\n".join((f"TrainingSet of {title}", *lines))


def training_set(
    entity_df: Any,
    query: Query,
    tables: Tables,
    *,
    project: str,
    service: str | None = None,
    as_known: bool = True,
    allow_stale: bool = False,
    draft: bool = False,
) -> TrainingSet:
    """Give each entity row the features that were known of its keys at its moment.

    Without `as_known` a value counts from its event time on, even if it became known later.
    `allow_stale` accepts moments after the tables' watermarks. `draft` and `service` only mark the
    lock.

    Raises:
        InvalidRequest: the entity rows do not fit the query.
        NotMaterialized: a table does not cover what the entity rows need.
    """
    spine = read_spine(entity_df, query)
    check_coverage(spine, query, tables, as_known=as_known, allow_stale=allow_stale)
    gathered = gather_lookups(spine, query, tables, as_known=as_known)
    lock = make_lock(
        spine,
        query,
        gathered,
        tables,
        project=project,
        service=service,
        as_known=as_known,
        allow_stale=allow_stale,
        draft=draft,
    )
    _warn(query, lock.lookups)
    return TrainingSet(
        spine=spine,
        features=outputs(spine, query, gathered),
        event_times=tuple(
            answer.found.event_time.alias(lookup.alias)
            for lookup, answer in zip(query.lookups, gathered, strict=True)
        ),
        lock=lock,
    )


def _warn(query: Query, lookups: tuple[LockedLookup, ...]) -> None:
    for asked, one in zip(query.lookups, lookups, strict=True):
        if _counts_created(asked.view) and one.withheld > WITHHELD_SHARE * one.valued:
            warnings.warn(
                f"{one.alias}: {one.withheld:,} of {one.valued:,} values were withheld, as they "
                "became known after their entity rows' moments. If the created column only says "
                f'when a bulk load ran, declare {one.view} with known_at="event", or pass '
                "as_known=False",
                WithheldWarning,
                stacklevel=4,
            )


def _counts_created(view: View) -> bool:
    """Say whether a created column can withhold a value; a declared delay is meant to."""
    return bool(view.known_at == "created" and view.source and view.source.created_field)


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
