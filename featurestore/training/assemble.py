"""From entity rows to pieces of work, and from their answers to output columns."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import polars as pl

from featurestore.engine.executor import Executor
from featurestore.engine.transform import compute as evaluate
from featurestore.engine.transform import program
from featurestore.model.documents import View
from featurestore.model.query import Compute, Lookup, Query
from featurestore.model.time import BEGINNING, Interval
from featurestore.model.windows import age, numbered, windows
from featurestore.training.answers import Answers
from featurestore.training.coverage import needed, require
from featurestore.training.spine import Spine
from featurestore.training.spread import Asking, Order, Spread, order_of, spread
from featurestore.training.tables import EmptyPart, Part, Parts, Tables
from featurestore.training.work import Piece, Use, answer, size_of, wanted_of, width_of

Report = Callable[[int, int, int], None]
"""Called with (pieces done, pieces in all, entity rows answered just now) as the answers come."""

_SHARE = 4
"""What a piece makes, and what it reads at one time, take a quarter of a worker's memory each."""
_FEWEST = 65_536
"""Entity rows that a piece answers at least, if there are so many: each piece reads its part."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """A stored version that a query reads: the lookups it answers, by number, and its parts."""

    view: View
    version: str
    lookups: tuple[tuple[int, Lookup], ...]
    parts: Parts


def check_coverage(
    spine: Spine, query: Query, tables: Tables, *, as_known: bool, allow_stale: bool
) -> None:
    """Refuse entity rows at moments that the tables do not hold; no moments need nothing.

    Raises:
        NotMaterialized: a table does not cover what the entity rows need.
    """
    ends = spine.ends
    if ends is None:
        return
    for one in versions_of(query):
        view, asked = one.view, _asked(query, one)
        need = needed(view, *ends, as_known=as_known, asked=asked)
        if need is not None:
            require(view, need, tables.covered(view), allow_stale=allow_stale)


def versions_of(query: Query) -> tuple[Lookup, ...]:
    """Give one lookup of each stored version of a query, however often it is used."""
    return tuple({lookup.version: lookup for lookup in query.lookups}.values())


def reads(spine: Spine, query: Query, tables: Tables) -> tuple[Read, ...]:
    """Give what is read of each stored version: only parts that can hold an answer."""
    found = []
    for one in versions_of(query):
        uses = ((n, use) for n, use in enumerate(query.lookups) if use.version == one.version)
        parts = tables.parts(one.view, _events(spine, one.view, _asked(query, one)))
        found.append(Read(view=one.view, version=one.version, lookups=tuple(uses), parts=parts))
    return tuple(found)


def _asked(query: Query, one: Lookup) -> frozenset[str]:
    """Name the features that a query asks of a version, in whichever lookup."""
    uses = (use for use in query.lookups if use.version == one.version)
    return frozenset(feature.name for use in uses for feature in use.features)


def _events(spine: Spine, view: View, asked: Collection[str]) -> Interval:
    """Give the event times that entity rows can be answered from: not after them, not too old.

    Rows that became known too late count too: they are what known-at withholds.
    """
    if spine.ends is None:
        return Interval(start=0, end=0)
    first, last = spine.ends
    oldest = age(view, asked)
    # An event with an id may have been moved in time, from anywhere.
    moved = numbered(view) and any(one.name in asked for one in windows(view))
    if oldest is None or moved:
        return Interval(start=BEGINNING, end=last)
    return Interval(start=first - oldest - 1, end=last)


def answers(
    spine: Spine,
    query: Query,
    found: Sequence[Read],
    executor: Executor,
    *,
    as_known: bool,
    folder: Path | None = None,
    report: Report | None = None,
) -> tuple[Answers, ...]:
    """Answer every lookup; a view used twice is read and ordered once.

    With a `folder` the answers wait there as files, else in memory.

    Raises:
        CorruptData: a table's files are not what was written.
    """
    spreads: dict[Order, Spread] = {}
    kept: dict[int, Answers] = {}
    pieces: list[Piece] = []
    share = executor.memory // executor.workers // _SHARE
    for read in found:
        laid = {}
        for number, lookup in read.lookups:
            order = order_of(lookup, read.parts.buckets)
            if order not in spreads:
                spreads[order] = spread(spine, lookup, read.parts.buckets)
            most = max(_FEWEST, share // max(1, width_of(read.view, _names(lookup))))
            laid[number] = [
                tuple(spreads[order].segments(bucket, most)) for bucket in range(order[1])
            ]
            kept[number] = Answers(
                lookup=lookup,
                order=spreads[order].order,
                segments=tuple(one for bucket in laid[number] for one in bucket),
                folder=folder,
            )
        for part in (*read.parts.parts, *_empty(read)):
            uses = [_uses(n, lookup, read, laid[n][part.bucket]) for n, lookup in read.lookups]
            pieces += _pieces(read.view, part, uses, share, as_known=as_known)
    asking = Asking(
        time=spine.time,
        keys=pl.DataFrame(spine.keys),
        orders={order: one.order for order, one in spreads.items() if one.order is not None},
    )
    sizes = [size_of(piece) for piece in pieces]
    for done, (_, made) in enumerate(executor.run(answer, asking, pieces, sizes), 1):
        for one in made:
            kept[one.lookup].add(one)
        if report is not None:
            report(done, len(pieces), sum(one.features.height for one in made))
    return tuple(kept[number] for number in range(len(query.lookups)))


def _empty(read: Read) -> Iterator[Part]:
    """Give a part for each bucket without one where windows are asked: of no events some are 0."""
    asked = {feature.name for _, lookup in read.lookups for feature in lookup.features}
    if any(one.name in asked for one in windows(read.view)):
        there = {part.bucket for part in read.parts.parts}
        yield from (
            EmptyPart(view=read.view, bucket=bucket)
            for bucket in range(read.parts.buckets)
            if bucket not in there
        )


def _names(lookup: Lookup) -> tuple[str, ...]:
    return tuple(feature.name for feature in lookup.features)


def _uses(
    number: int, lookup: Lookup, read: Read, stretches: Sequence[tuple[int, int]]
) -> list[Use]:
    """Give a lookup's stretches of entity rows in one bucket."""
    return [
        Use(
            lookup=number,
            keys=tuple(column for _, column in lookup.keys),
            features=_names(lookup),
            order=order_of(lookup, read.parts.buckets),
            start=start,
            stop=stop,
        )
        for start, stop in stretches
    ]


def _pieces(
    view: View, part: Part, uses: Sequence[Sequence[Use]], share: int, *, as_known: bool
) -> Iterator[Piece]:
    """Give the pieces of one part: the first stretches of all lookups together, and so on."""
    for together in zip_longest(*uses):
        asked = tuple(use for use in together if use is not None)
        wanted = wanted_of(asked)
        widest = max((width_of(view, (name,)) for name in wanted), default=1)
        width = max(1, share // max(1, 2 * part.rows * widest))
        yield Piece(part=part, view=view, uses=asked, as_known=as_known, width=width)


def outputs(
    spine: Spine, query: Query, found: Sequence[Answers], start: int, stop: int
) -> pl.DataFrame:
    """Give all outputs of the entity rows `start` to `stop`, named and ordered as the query says.

    The on-demand views are computed here.

    Raises:
        FeatureStoreError: an on-demand feature cannot be computed (see `engine.transform`).
    """
    gathered = [one.rows(start, stop) for one in found]
    computed = [_compute(one, spine, gathered, start, stop) for one in query.computes]
    columns = []
    for output in query.outputs:
        if output.lookup is not None:
            origin = gathered[output.lookup]
        else:
            assert output.compute is not None
            origin = computed[output.compute]
        columns.append(origin[output.feature.name].alias(output.name))
    return pl.DataFrame(columns)


def _compute(
    compute: Compute, spine: Spine, gathered: Sequence[pl.DataFrame], start: int, stop: int
) -> pl.DataFrame:
    columns = {
        bind.column: spine.field(bind.field)[start:stop]
        if bind.lookup is None
        else gathered[bind.lookup][bind.field]
        for bind in compute.binds
    }
    path = f"{compute.view.name}.features"
    return evaluate(columns, stop - start, program(compute.features, path=path))
