"""Writing the lock of a training set: what was read, under which ids, and for which entity rows."""

from collections.abc import Iterator, Sequence

import polars as pl

from featurestore.model.documents import View
from featurestore.model.expressions import DIALECT
from featurestore.model.fingerprint import Part, digest
from featurestore.model.lock import Lock, LockedLookup, LockedOutput, LockedView
from featurestore.model.query import Lookup, Output, Query
from featurestore.training.assemble import Gathered, views_of
from featurestore.training.spine import Spine
from featurestore.training.tables import Tables


def make_lock(
    spine: Spine,
    query: Query,
    gathered: Sequence[Gathered],
    tables: Tables,
    *,
    project: str,
    service: str | None,
    as_known: bool,
    allow_stale: bool,
    draft: bool,
) -> Lock:
    """Give the lock of what was just read."""
    stored = tuple(_view(view, tables.data_version(view)) for view in views_of(query))
    computed = tuple(_view(compute.view, None) for compute in query.computes)
    return Lock(
        project=project,
        draft=draft,
        service=service,
        as_known=as_known,
        allow_stale=allow_stale,
        outputs=tuple(_output(output, query) for output in query.outputs),
        lookups=tuple(
            LockedLookup(
                view=lookup.view.name,
                alias=lookup.alias,
                join_key_map=_pairs(lookup),
                withheld=answer.found.withheld,
                valued=answer.found.valued,
            )
            for lookup, answer in zip(query.lookups, gathered, strict=True)
        ),
        views=stored + computed,
        dialect=DIALECT,
        polars=pl.__version__,
        spine=spine_digest(spine),
        rows=len(spine),
    )


def spine_digest(spine: Spine) -> str:
    """Give a digest of what decides the answer: moments, keys and request data, row by row.

    It depends on values alone: not on chunks, on bits under nulls, or on the frame's library.
    """
    parts = (
        (role, series.name, str(series.dtype), *_content(series))
        for role, columns in (
            ("time", (spine.time.alias(""),)),
            ("key", spine.keys),
            ("request", spine.request),
        )
        for series in columns
    )
    return digest("spine", len(spine), *parts)


def _content(series: pl.Series) -> Iterator[Part]:
    """Give bytes that determine a column: which values are there, their sizes, the values."""
    yield series.is_not_null().to_numpy().tobytes()
    present = series.drop_nulls()
    if isinstance(series.dtype, pl.List):
        yield present.list.len().to_numpy().tobytes()
        yield tuple(_content(present.explode()))
    elif isinstance(series.dtype, pl.Array):
        yield tuple(_content(present.explode()))
    elif series.dtype == pl.String:
        yield present.str.len_bytes().to_numpy().tobytes()
        yield present.str.join("").item()
    else:
        yield present.to_physical().to_numpy().tobytes()


def _view(view: View, data: str | None) -> LockedView:
    return LockedView(
        name=view.name,
        id=view.id,
        kind=view.kind,
        ttl=view.ttl,
        known_at=view.known_at,
        delay=view.delay,
        data=data,
    )


def _output(output: Output, query: Query) -> LockedOutput:
    if output.lookup is not None:
        view, pairs = query.lookups[output.lookup].view, _pairs(query.lookups[output.lookup])
    else:
        assert output.compute is not None
        view, pairs = query.computes[output.compute].view, ()
    return LockedOutput(
        name=output.name,
        view=view.name,
        alias=output.alias,
        feature=output.feature.name,
        feature_id=output.feature.id,
        version=view.id,
        dtype=output.feature.dtype,
        join_key_map=pairs,
    )


def _pairs(lookup: Lookup) -> tuple[tuple[str, str], ...]:
    return tuple((key.name, column) for key, column in lookup.keys)
