"""The answer: training rows in any frame a notebook speaks, with their lock."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from featurestore.engine.executor import Executor, LocalExecutor
from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.lock import Lock
from featurestore.model.query import Query
from featurestore.model.schema import parse_dtype, value_bytes
from featurestore.storage.parquet import folder_beside, target_of, write_parquet
from featurestore.training.answers import TO_PARQUET, Answers, Counts
from featurestore.training.assemble import Read, answers, check_coverage, outputs, reads
from featurestore.training.explain import Explanation, explained
from featurestore.training.join import counts_created
from featurestore.training.lock import make_lock
from featurestore.training.progress import progress
from featurestore.training.shown import html_of
from featurestore.training.spine import Spine, read_spine
from featurestore.training.tables import Tables

WITHHELD_SHARE = 0.2
"""Above this share of a lookup's values, known-at is more likely misunderstood than needed."""

LOCK_KEY = "featurestore.lock"
"""Under what a Parquet file of a training set has its lock."""

_OWN = 16
"""Bytes that a value of the caller's own columns is taken to have."""
_FEWEST, _MOST = 16_384, 1 << 20
"""Rows that are put together at one time, and make a row group."""
_SHOWN = 10
_LISTED = 16
_WIDTH = 80
_LEAST = 28


class WithheldWarning(UserWarning):
    """Known-at withheld so many values that a created column may say when a bulk load ran."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """All that a training set is made of, settled when it was asked for."""

    spine: Spine
    query: Query
    tables: Tables
    reads: tuple[Read, ...]
    executor: Executor
    project: str
    service: str | None
    as_known: bool
    allow_stale: bool
    draft: bool


class TrainingSet:
    """The entity rows as they came, followed by the outputs; one row out for each row in.

    What it reads is settled when it is asked for: table, version and files. The join runs when
    values are first looked at, once; `to_parquet` runs it without holding the answer in memory.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._features: pl.DataFrame | None = None
        self._first: pl.DataFrame | None = None
        self._counts: tuple[Counts, ...] | None = None
        self._lock: Lock | None = None

    @property
    def features(self) -> pl.DataFrame:
        """The outputs alone, in order."""
        if self._features is None:
            found = self._answers()
            spine = self._request.spine
            self._first = spine.own.rows(0, min(_SHOWN, len(self)))
            self._features = outputs(spine, self._request.query, found, 0, len(self))
        return self._features

    @property
    def lock(self) -> Lock:
        """What the rows were made of: ids, versions, data, spine digest, libraries, withheld."""
        if self._lock is None:
            asked = self._request
            self._lock = make_lock(
                asked.spine,
                asked.query,
                self._counted(),
                asked.tables,
                project=asked.project,
                service=asked.service,
                as_known=asked.as_known,
                allow_stale=asked.allow_stale,
                draft=asked.draft,
            )
        return self._lock

    @property
    def withheld(self) -> Mapping[str, int]:
        """Count, per alias, the entity rows whose value by event time was not yet known."""
        counts: Counter[str] = Counter()
        for lookup, one in zip(self._request.query.lookups, self._counted(), strict=True):
            counts[lookup.alias] += one.withheld
        return dict(counts)

    def _counted(self) -> tuple[Counts, ...]:
        if self._counts is None:
            _ = self.features
        assert self._counts is not None
        return self._counts

    def _answers(self, folder: Path | None = None) -> tuple[Answers, ...]:
        asked = self._request
        with progress(len(self) * len(asked.query.lookups)) as report:
            try:
                found = answers(
                    asked.spine,
                    asked.query,
                    asked.reads,
                    asked.executor,
                    as_known=asked.as_known,
                    folder=folder,
                    report=report,
                )
            except CorruptData:
                # Files that a vacuum took since they were settled are no damage: this says so.
                reads(asked.spine, asked.query, asked.tables)
                raise
        if self._counts is None:
            self._counts = tuple(one.counted for one in found)
            _warn(asked.query, self._counts)
        return found

    def to_polars(self) -> pl.DataFrame:
        """Give the rows as a Polars frame."""
        return self._request.spine.frame.hstack(self.features)

    def to_arrow(self) -> Any:
        """Give the rows as a pyarrow table; own columns that came in one are kept as they were."""
        spine = self._request.spine
        if not spine.came_from("pyarrow"):
            return self.to_polars().to_arrow()
        table, features = spine.origin, self.features.to_arrow()
        for name in features.column_names:
            table = table.append_column(features.schema.field(name), features[name])
        return table

    def to_df(self) -> Any:
        """Give the rows as a pandas frame with a fresh index; pandas is imported here.

        Own columns that came in a pandas frame are kept as they were. A missing value is what
        pandas makes of it: NaN in numbers, None in strings.
        """
        spine = self._request.spine
        if not spine.came_from("pandas"):
            return self.to_polars().to_pandas()
        return spine.origin.reset_index(drop=True).join(self.features.to_pandas())

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the rows to a Parquet file, in their order, without holding them all in memory.

        The file has its lock in its metadata, under `featurestore.lock`, and appears under its name
        when it is whole. Answers wait in a folder beside it meanwhile, as large as the features.

        Raises:
            InvalidRequest: the folder is not there, or the path is a folder, a device or a URL.
            Unavailable: the file cannot be written.
        """
        target = target_of(path, TO_PARQUET)
        if self._features is not None:
            self._write(target, self._kept)
            return
        with folder_beside(target, TO_PARQUET) as folder:
            found = self._answers(Path(folder))
            self._write(target, lambda: self._rows(found))

    def _write(self, target: Path, frames: Callable[[], Iterator[pl.DataFrame]]) -> None:
        dtypes = {o.name: parse_dtype(o.feature.dtype) for o in self._request.query.outputs}
        schema = pl.Schema(self._request.spine.own.schema | dtypes)
        write_parquet(target, frames, schema, {LOCK_KEY: self.lock.to_json()}, where=TO_PARQUET)

    def _kept(self) -> Iterator[pl.DataFrame]:
        rows = self.to_polars()
        yield from (rows[start:stop] for start, stop in self._stretches())

    def _rows(self, found: Sequence[Answers]) -> Iterator[pl.DataFrame]:
        spine = self._request.spine
        for start, stop in self._stretches():
            made = outputs(spine, self._request.query, found, start, stop)
            yield spine.own.rows(start, stop).hstack(made)

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Cut the rows into stretches that take an eighth of the memory; one, if there is none."""
        query = self._request.query
        width = sum(value_bytes(parse_dtype(output.feature.dtype)) for output in query.outputs)
        width += _OWN * len(self._request.spine.own.schema)
        most = max(_FEWEST, min(_MOST, self._request.executor.memory // 8 // max(1, width)))
        yield from pairwise((*range(0, max(1, len(self)), most), len(self)))

    def __len__(self) -> int:
        return len(self._request.spine)

    def explain(self) -> Explanation:
        """Say which views, rows and files are read, and which files no entity row can need."""
        asked = self._request
        return explained(len(self), asked.query, asked.reads, repr(asked.executor))

    def __repr__(self) -> str:
        return "\n".join((f"TrainingSet of {self._title()}", *self._lines()))

    def _repr_html_(self) -> str:
        """Give a notebook's table of the outputs, and of the first rows if they are there."""
        return html_of(self._title(), self._columns(), self._head())

    def _head(self) -> pl.DataFrame | None:
        if self._features is None or self._first is None:
            return None
        return self._first.hstack(self._features[:_SHOWN])

    def _title(self) -> str:
        own = len(self._request.spine.own.schema)
        asked = self._request
        draft = ", draft" if asked.draft else ""
        return f"{len(self):,} rows: {own} own columns, {len(asked.query.outputs)} features{draft}"

    def _columns(self) -> list[tuple[str, str, str]]:
        """Give each output's name and dtype, and the version it comes from."""
        query = self._request.query
        uses = [
            query.lookups[output.lookup]
            if output.lookup is not None
            else query.computes[output.compute or 0]
            for output in query.outputs
        ]
        return [
            (output.name, output.feature.dtype, f"{use.view.name}@{use.version[:12]}")
            for output, use in zip(query.outputs, uses, strict=True)
        ]

    def _lines(self) -> list[str]:
        columns = self._columns()
        shown = columns[:_LISTED]
        dtype, version = (max((len(row[n]) for row in shown), default=0) for n in (1, 2))
        room = max(_LEAST, _WIDTH - len("  " * 3) - dtype - version)
        name = min(max((len(row[0]) for row in shown), default=0), room)
        lines = [
            f"  {_fit(row[0], name)}  {row[1]:<{dtype}}  {row[2]}"[:_WIDTH].rstrip()
            for row in shown
        ]
        if len(columns) > _LISTED:
            lines.append(f"  … and {len(columns) - _LISTED} more")
        return lines


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
    executor: Executor | None = None,
) -> TrainingSet:
    """Give each entity row the features that were known of its keys at its moment.

    Without `as_known` a value counts from its event time on, even if it became known later.
    `allow_stale` accepts moments after the tables' watermarks. `draft` and `service` only mark the
    lock. The `executor` joins: by default the threads of this process, in half its memory.

    Raises:
        InvalidRequest: the entity rows do not fit the query, or the executor runs nothing.
        NotMaterialized: a table does not cover what the entity rows need.
    """
    if executor is not None and (isinstance(executor, type) or not hasattr(executor, "run")):
        raise InvalidRequest(
            f"executor: {executor!r} runs nothing; pass LocalExecutor() or RayExecutor()"
        )
    spine = read_spine(entity_df, query)
    check_coverage(spine, query, tables, as_known=as_known, allow_stale=allow_stale)
    return TrainingSet(
        Request(
            spine=spine,
            query=query,
            tables=tables,
            reads=reads(spine, query, tables),
            executor=LocalExecutor() if executor is None else executor,
            project=project,
            service=service,
            as_known=as_known,
            allow_stale=allow_stale,
            draft=draft,
        )
    )


def _warn(query: Query, counts: Sequence[Counts]) -> None:
    for lookup, one in zip(query.lookups, counts, strict=True):
        if counts_created(lookup.view) and one.withheld > WITHHELD_SHARE * one.valued:
            warnings.warn(
                f"{lookup.alias}: {one.withheld:,} of {one.valued:,} values were withheld, as they "
                "became known after their entity rows' moments. If the created column only says "
                f'when a bulk load ran, declare {lookup.view.name} with known_at="event", or pass '
                "as_known=False",
                WithheldWarning,
                stacklevel=4,
            )


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
