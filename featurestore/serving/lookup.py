"""The answer to one request: keys, one read, statuses, on-demand features, blocks.

Its only input and output is the reader that is passed in; the moment is a parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from operator import is_not

import numpy as np
import polars as pl

from featurestore.engine.answers import answers
from featurestore.engine.questions import Questions
from featurestore.engine.request import cast_request
from featurestore.engine.tiles import beside
from featurestore.engine.transform import transform
from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.names import suggest
from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving import twin
from featurestore.serving.plan import BlockPlan, Copy, Plan, Read, Step
from featurestore.serving.wire import ARRAY, ELEMENTS, Array, Grid, Mask, grid_of, put, shape_of
from featurestore.storage.fixed import Group, masked, restore
from featurestore.storage.keys import canonical_keys, cast_keys, pushed_of, states_of
from featurestore.storage.packed import known_times
from featurestore.storage.rows import Decoded
from featurestore.storage.states import decode_states

Keys = Sequence[bytes | None]
Packed = list[bytes | None]
Reader = Callable[[Sequence[tuple[str, Keys]]], list[list[bytes | None]]]
"""Gives, for each table and its canonical keys, the rows found; None where there is none."""

PRESENT, NULL_VALUE = pb.STATUS_PRESENT, pb.STATUS_NULL_VALUE
NOT_FOUND, NOT_YET_KNOWN = pb.STATUS_NOT_FOUND, pb.STATUS_NOT_YET_KNOWN
OUTSIDE_MAX_AGE = pb.STATUS_OUTSIDE_MAX_AGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The rows of one read, judged: `shown` says which rows' values count.

    `groups` are the columns of rows by dtype, `moving` the window features asked for, null where
    they do not count.
    """

    decoded: Decoded
    groups: tuple[Group, ...]
    shown: Mask
    statuses: Array
    event_times: Array
    moving: tuple[Group, ...]


def answer(
    plan: Plan,
    *,
    count: int,
    entities: Mapping[str, pl.Series],
    request_data: Mapping[str, pl.Series],
    as_of: int,
    read: Reader,
) -> bytes:
    """Give the bytes of a GetOnlineFeaturesResponse for `count` rows at a moment (UTC µs).

    Raises:
        InvalidRequest: a key or request column is missing or of another dtype, or an on-demand
            feature cannot be computed of these values.
        OnlineDataMissing, Unavailable: the reader's own.
    """
    request = _request(plan, request_data, entities)
    found = _find(plan, count, entities, as_of, read)
    computed = [_compute(step, found, request, count) for step in plan.steps]
    reply = twin.GetOnlineFeaturesResponse(count=count, as_of=as_of)
    for block in plan.blocks:
        message = reply.blocks.add()
        message.outputs.extend(block.outputs)
        put(_grid(block, found, computed, count), message.values)
    states = [one.statuses for one in found]
    states += [_computed_status(frame) for frame in computed]
    reply.statuses = np.concatenate(states).astype("u1").tobytes()
    times = [one.event_times for one in found]
    times += [np.zeros(count, np.int64)] * len(computed)
    reply.event_times = np.concatenate(times).astype("<i8", copy=False).tobytes()
    head: bytes = plan.head
    return head + bytes(reply.SerializeToString())


def _request(
    plan: Plan, request_data: Mapping[str, pl.Series], entities: Mapping[str, pl.Series]
) -> dict[str, pl.Series]:
    """Take each request field from request data, else from the rows of the entities."""
    found = {}
    for field in plan.query.request:
        column = request_data.get(field.name, entities.get(field.name))
        path = f"request_data.{field.name}"
        if column is None:
            known = suggest(field.name, [*request_data, *entities])
            raise InvalidRequest(f"{path}: missing; bring a column of {field.dtype}{known}")
        found[field.name] = cast_request(column, field.dtype, path=path)
    return found


def _find(
    plan: Plan, count: int, entities: Mapping[str, pl.Series], as_of: int, read: Reader
) -> list[Found]:
    wanted = plan.query.entities
    for column in wanted:
        if column.name not in entities:
            raise InvalidRequest(
                f"entities.{column.name}: missing; bring a column of {column.dtype}"
                f"{suggest(column.name, entities)}"
            )
    columns = [_typed(entities[column.name], column) for column in wanted]
    frame = cast_keys(pl.DataFrame(columns), wanted, "entities")
    single = pl.DataFrame({"": [0]})
    asked = [
        (one.table, canonical_keys(frame if one.keys else single, one.keys)) for one in plan.reads
    ]
    moving = [
        (of(one.table), keys)
        for one, (_, keys) in zip(plan.reads, asked, strict=True)
        if one.windows
        for of in (states_of, pushed_of)
    ]
    found = read([*asked, *moving]) if asked else []
    states = iter(found[len(asked) :])
    judged = []
    for one, (_, keys), rows in zip(plan.reads, asked, found[: len(asked)], strict=True):
        asking = one.windows
        windows = None
        if asking is not None:
            windows = _windows(one, asking, (next(states), next(states)), keys, as_of)
        if one.keys:
            judged.append(_judge(one, rows, windows, as_of))
        else:
            repeated = windows and _repeated(windows, count)
            judged.append(_judge(one, rows * count, repeated, as_of))
    return judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """Window features of entities, and of which entities they are known too late."""

    groups: tuple[Group, ...]
    early: Mask


def _windows(
    read: Read, asked: Questions, packed: tuple[Packed, Packed], keys: Keys, as_of: int
) -> Moving:
    """Compute window features of states, with what was pushed beside them.

    Of a null key, or known too late, they are null.
    """
    layout = asked.columns.plan
    try:
        states = beside(layout, *(decode_states(layout, one) for one in packed))
    except CorruptData as error:
        raise CorruptData(f"{read.lookup.view.name}.{read.table}: {error}") from error
    early = states.newest > as_of
    shown = ~early & np.fromiter(map(is_not, keys, repeat(None)), np.bool_, len(keys))
    groups = (
        Group(
            dtype=block.dtype,
            names=block.names,
            values=block.values.T,
            valid=(block.valid & shown).T,
            inner_valid=None,
        )
        for block in answers(asked, states, as_of)
    )
    return Moving(groups=tuple(groups), early=early)


def _repeated(one: Moving, count: int) -> Moving:
    """Give what the one entity of a view without keys has, once for each row."""
    groups = (
        replace(
            group,
            values=np.repeat(group.values, count, axis=0),
            valid=np.repeat(group.valid, count, axis=0),
        )
        for group in one.groups
    )
    return Moving(groups=tuple(groups), early=np.repeat(one.early, count))


def _typed(column: pl.Series, declared: Column) -> pl.Series:
    if column.null_count() < len(column):
        return column.alias(declared.name)
    return pl.Series(declared.name, [None], declared.polars).new_from_index(0, len(column))


def _judge(read: Read, rows: list[bytes | None], windows: Moving | None, as_of: int) -> Found:
    """Say what became of each row: not there, not yet known, too old, null or present.

    No row is too old for windows alone.
    """
    view = read.lookup.view
    try:
        decoded = read.layout.decode(rows)
    except CorruptData as error:
        raise CorruptData(f"{view.name}.{read.table}: {error}") from error
    event = decoded.event_time
    there = decoded.present & ~decoded.tombstone
    early = there & (known_times(view, decoded) > as_of)
    shown = there & ~early
    if view.ttl is not None:
        shown &= event >= as_of - view.ttl
    valued = decoded.valid[:, read.asked].any(axis=1)
    hidden = ~shown if read.asked else np.zeros(len(rows), np.bool_)
    if windows is not None:
        early = early | (there & windows.early)
        valued = np.logical_or.reduce([valued, *(one.valid.any(axis=1) for one in windows.groups)])
    statuses = np.select(
        [~there, early, hidden, ~valued],
        [NOT_FOUND, NOT_YET_KNOWN, OUTSIDE_MAX_AGE, NULL_VALUE],
        PRESENT,
    )
    return Found(
        decoded=decoded,
        groups=decoded.groups(),
        shown=shown,
        statuses=statuses,
        event_times=np.where(there, event, 0),
        moving=windows.groups if windows else (),
    )


def _stored(found: Found, name: str) -> pl.Series:
    """Give a feature's column, null where its row does not count."""
    for group in found.moving:
        if name in group.names:
            return restore(Column(name=name, dtype=group.dtype), group)
    column = found.decoded.series(name)
    return column if found.shown.all() else masked(column, found.shown)


def _compute(
    step: Step, found: Sequence[Found], request: Mapping[str, pl.Series], count: int
) -> pl.DataFrame:
    columns = [
        (
            request[bind.field] if bind.lookup is None else _stored(found[bind.lookup], bind.field)
        ).alias(bind.column)
        for bind in step.compute.binds
    ]
    frame = pl.DataFrame(columns) if columns else pl.DataFrame({"": np.zeros(count)})
    return transform(frame, step.program)


def _computed_status(frame: pl.DataFrame) -> Array:
    null = np.logical_and.reduce([column.is_null().to_numpy() for column in frame])
    return np.where(null, NULL_VALUE, PRESENT)


def _grid(
    block: BlockPlan,
    found: Sequence[Found],
    computed: Sequence[pl.DataFrame],
    count: int,
) -> Grid:
    """Gather a block's columns: whole groups by copy, the others as series."""
    series = {
        place.target: _stored(found[place.read], place.name)
        if place.read is not None
        else computed[place.step or 0].get_column(place.name)
        for place in block.places
    }
    if not block.copies:
        return grid_of([series[target] for target in range(len(block.outputs))], block.dtype)
    element, shape, width = shape_of(block.dtype)
    cell = (width,) if shape == ARRAY else ()
    values = np.zeros((len(block.outputs), count, *cell), ELEMENTS[element].here)
    valid = np.zeros((len(block.outputs), count), np.bool_)
    inner = np.ones(values.shape, np.bool_) if cell else None
    for copy in block.copies:
        _copy(found[copy.read], copy, values, valid, inner)
    for target, column in series.items():
        one = grid_of([column], block.dtype)
        values[target] = np.reshape(one.elements, (count, *cell))
        valid[target] = True if one.valid is None else one.valid[0]
        if inner is not None and one.inner is not None:
            inner[target] = one.inner.reshape(count, width)
    complete = bool(valid.all())
    if not complete:
        values[~valid] = 0
        if inner is not None:
            inner[~valid] = True
    return Grid(
        dtype=block.dtype,
        columns=len(block.outputs),
        rows=count,
        elements=values.reshape(-1),
        valid=None if complete else valid,
        inner=None if inner is None else inner.reshape(-1),
    )


def _copy(found: Found, copy: Copy, values: Array, valid: Mask, inner: Mask | None) -> None:
    group = (found.moving if copy.moving else found.groups)[copy.group]
    sources, targets = list(copy.sources), list(copy.targets)
    values[targets] = np.swapaxes(group.values[:, sources], 0, 1)
    shown = group.valid[:, sources].T
    valid[targets] = shown if copy.moving else shown & found.shown
    if inner is not None and group.inner_valid is not None:
        inner[targets] = np.swapaxes(group.inner_valid[:, sources], 0, 1)
