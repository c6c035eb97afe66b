"""What a request needs, worked out once per release: reads, keys, programs and where values go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurestore.engine.questions import Questions, asking
from featurestore.engine.transform import Program, program
from featurestore.errors import NotMaterialized
from featurestore.model.documents import Feature, LiveView
from featurestore.model.query import Compute, Lookup, Query
from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.reply import outputs_of
from featurestore.serving.message.wire import LIST, shape_of
from featurestore.serving.push.states import layout
from featurestore.storage.rows import RowLayout, layout_of

Move = tuple[int, bool, int]
"""The number of a read, whether its windows are meant, and the number of a group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One lookup: its table, the caller's key columns, and the places of the features asked for.

    `entity` is the number of its key columns among those of the plan. `asked` are the row features'
    places in the validity bitmap of a row; `windows` are the window features asked for, None if
    there are none.
    """

    lookup: Lookup
    table: str
    entity: int
    keys: tuple[Column, ...]
    layout: RowLayout
    asked: tuple[int, ...]
    windows: Questions | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One on-demand view with its program, ready to run."""

    compute: Compute
    program: Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Fixed-width columns of one read that go into a block: places in a group.

    Groups are numbered among those of the stored rows, or (`moving`) of the windows.
    """

    read: int
    moving: bool
    group: int
    sources: slice | list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """String columns of one read that go into a block: places among its variable columns."""

    read: int
    sources: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One column that goes into a block as a series: from read or step number, by its name."""

    read: int | None
    step: int | None
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """The columns of one dtype, those that are copied first; `head` says which outputs they are."""

    dtype: str
    head: bytes
    copies: tuple[Copy | Texts, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that answers one kind of request; `head` are the reply's bytes that never change.

    `entities` are the key columns of every kind of entity that is read.
    """

    query: Query
    entities: tuple[tuple[Column, ...], ...]
    reads: tuple[Read, ...]
    steps: tuple[Step, ...]
    blocks: tuple[BlockPlan, ...]
    projections: tuple[pb.Projection, ...]
    head: bytes


def compile_plan(query: Query, stored: Mapping[str, LiveView], release: int) -> Plan:
    """Work out the plan of a query; `stored` gives each version of the release by its id.

    Raises:
        NotMaterialized: a view has no table in the release.
        Unsupported: an on-demand feature has no bytes in this build's dialect.
    """
    keys = [tuple(Column(name=n, dtype=k.dtype) for k, n in one.keys) for one in query.lookups]
    entities = tuple(dict.fromkeys(keys))
    reads = tuple(
        _read(lookup, entities, own, stored[lookup.view.id], release)
        for lookup, own in zip(query.lookups, keys, strict=True)
    )
    steps = tuple(
        Step(
            compute=compute,
            program=program(compute.features, path=f"{compute.view.name}.features"),
        )
        for compute in query.computes
    )
    dtypes = dict.fromkeys(output.feature.dtype for output in query.outputs)
    projections = _projections(query)
    head = pb.GetOnlineFeaturesResponse(
        names=[output.name for output in query.outputs],
        output_projections=output_projections(query),
        projections=projections,
        release=release,
    )
    return Plan(
        query=query,
        entities=entities,
        reads=reads,
        steps=steps,
        blocks=tuple(_block(dtype, query, reads) for dtype in dtypes),
        projections=projections,
        head=head.SerializeToString(),
    )


def output_projections(query: Query) -> list[int]:
    """Give the number of each output's projection: lookups first, then on-demand views."""
    return [
        len(query.lookups) + output.compute if output.compute is not None else output.lookup or 0
        for output in query.outputs
    ]


def _projections(query: Query) -> tuple[pb.Projection, ...]:
    uses: tuple[Lookup | Compute, ...] = (*query.lookups, *query.computes)
    return tuple(
        pb.Projection(
            alias=one.alias,
            view=one.view.name,
            version=one.version,
            on_demand=isinstance(one, Compute),
        )
        for one in uses
    )


def _read(
    lookup: Lookup,
    entities: Sequence[tuple[Column, ...]],
    keys: tuple[Column, ...],
    live: LiveView,
    release: int,
) -> Read:
    if live.table is None:
        raise NotMaterialized(
            f"{live.view.name}: {live.view.version} has no table in release {release}; run "
            "`featurestore materialize START END`, then `featurestore promote`"
        )
    packed = layout_of(lookup.view)
    places = bitmap_places(packed)
    moving = tuple(feature for feature in lookup.features if feature.window is not None)
    return Read(
        lookup=lookup,
        table=live.table.id,
        entity=entities.index(keys),
        keys=keys,
        layout=packed,
        asked=tuple(places[one.name] for one in lookup.features if one.window is None),
        windows=asking(layout(lookup.view), moving) if moving else None,
    )


def bitmap_places(layout: RowLayout) -> dict[str, int]:
    """Give each column's place in a row's validity bitmap: blocks first, then variable ones."""
    names = [name for block in layout.blocks for name in block.names]
    names += [column.name for column in layout.variable]
    return {name: place for place, name in enumerate(names)}


def _block(dtype: str, query: Query, reads: Sequence[Read]) -> BlockPlan:
    """Say where the columns of a dtype come from; those that are copied go first."""
    lists = shape_of(dtype)[1] == LIST
    moves: dict[Move, list[tuple[int, int]]] = {}
    places, others = [], []
    for number, output in enumerate(query.outputs):
        if output.feature.dtype != dtype:
            continue
        if output.lookup is None or lists:
            name = output.feature.name
            places.append(Place(read=output.lookup, step=output.compute, name=name))
            others.append(number)
        else:
            moving = output.feature.window is not None
            read = reads[output.lookup]
            group, source = _source(read, output.feature, moving=moving)
            moves.setdefault((output.lookup, moving, group), []).append((source, number))
    copied = {move: sorted(pairs) for move, pairs in moves.items()}
    made = (_copy(dtype, move, [at for at, _ in pairs]) for move, pairs in copied.items())
    outputs = [number for pairs in copied.values() for _, number in pairs]
    return BlockPlan(
        dtype=dtype,
        head=outputs_of([*outputs, *others]),
        copies=tuple(made),
        places=tuple(places),
    )


def _source(read: Read, feature: Feature, *, moving: bool) -> tuple[int, int]:
    """Give the group that a feature stands in, and its place there."""
    if feature.dtype == "string":
        return 0, read.layout.places[feature.name][1]
    groups = read.windows.blocks if moving and read.windows else read.layout.blocks
    group = [one.dtype for one in groups].index(feature.dtype)
    return group, groups[group].names.index(feature.name)


def _copy(dtype: str, move: Move, places: list[int]) -> Copy | Texts:
    read, moving, group = move
    if dtype == "string":
        return Texts(read=read, sources=places)
    return Copy(read=read, moving=moving, group=group, sources=_sources(places))


def _sources(places: list[int]) -> slice | list[int]:
    """Give ascending places, as a slice if they are side by side: it is read without a copy."""
    run = slice(places[0], places[-1] + 1)
    return run if len(places) == run.stop - run.start else places
