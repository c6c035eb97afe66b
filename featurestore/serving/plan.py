"""What a request needs, worked out once per release: reads, keys, programs and where values go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from featurestore.engine.questions import Questions, asking
from featurestore.engine.transform import Program, program
from featurestore.errors import NotMaterialized
from featurestore.model.documents import LiveView
from featurestore.model.query import Compute, Lookup, Query
from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.states import layout
from featurestore.serving.wire import LIST, shape_of
from featurestore.storage.rows import RowLayout, layout_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One lookup: its table, the caller's key columns, and the places of the features asked for.

    `asked` are the row features' places in the validity bitmap of a row; `windows` are the window
    features asked for, None if there are none.
    """

    lookup: Lookup
    table: str
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
    """Fixed-width columns of one read that go into a block: from places in a group to places.

    Groups are numbered among those of the stored rows, or (`moving`) of the windows.
    """

    read: int
    moving: bool
    group: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One column that goes into a block as a series: from read or step number, by its name."""

    read: int | None
    step: int | None
    name: str
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """The outputs of one dtype: their numbers, and where each comes from."""

    dtype: str
    outputs: tuple[int, ...]
    copies: tuple[Copy, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that answers one kind of request; `head` are the reply's bytes that never change."""

    query: Query
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
    reads = tuple(_read(lookup, stored[lookup.view.id], release) for lookup in query.lookups)
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


def _read(lookup: Lookup, live: LiveView, release: int) -> Read:
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
        keys=tuple(Column(name=caller, dtype=key.dtype) for key, caller in lookup.keys),
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
    numbers = [n for n, output in enumerate(query.outputs) if output.feature.dtype == dtype]
    variable = dtype == "string" or shape_of(dtype)[1] == LIST
    moves: dict[tuple[int, bool, int], list[tuple[int, int]]] = {}
    places = []
    for target, number in enumerate(numbers):
        output = query.outputs[number]
        name = output.feature.name
        if output.lookup is None or variable:
            places.append(Place(read=output.lookup, step=output.compute, name=name, target=target))
            continue
        read, moving = reads[output.lookup], output.feature.window is not None
        groups = read.windows.blocks if moving and read.windows else read.layout.blocks
        group = [one.dtype for one in groups].index(dtype)
        source = groups[group].names.index(name)
        moves.setdefault((output.lookup, moving, group), []).append((source, target))
    return BlockPlan(
        dtype=dtype,
        outputs=tuple(numbers),
        copies=tuple(
            Copy(
                read=read,
                moving=moving,
                group=group,
                sources=tuple(source for source, _ in pairs),
                targets=tuple(target for _, target in pairs),
            )
            for (read, moving, group), pairs in moves.items()
        ),
        places=tuple(places),
    )
