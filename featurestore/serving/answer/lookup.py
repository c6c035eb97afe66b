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
from featurestore.engine.transform import compute
from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.names import suggest
from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.plan import BlockPlan, Copy, Plan, Read, Step, Texts
from featurestore.serving.answer.reply import (
    Run,
    answered,
    block_of,
    grid_bytes,
    run_of,
    strings_of,
    texts_of,
    values_of,
)
from featurestore.serving.answer.requests import Request
from featurestore.serving.answer.trace import COMPUTE, UNWATCHED, Trace
from featurestore.serving.message.wire import Mask, grid_of
from featurestore.storage.decoded import Decoded, Times
from featurestore.storage.fixed import Group, masked, restore
from featurestore.storage.keys import (
    canonical_cells,
    canonical_keys,
    cast_keys,
    pushed_of,
    states_of,
)
from featurestore.storage.packed import known_times
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
    """The rows of one read, judged: `shown` says which rows' values count, None for all.

    `statuses` and `event_times` are as they travel. `moving` are the window features asked for,
    null where they do not count.
    """

    decoded: Decoded
    shown: Mask | None
    statuses: bytes
    event_times: bytes
    moving: tuple[Group, ...]


def answer(
    plan: Plan, request: Request, as_of: int, read: Reader, trace: Trace = UNWATCHED
) -> bytes:
    """Give the bytes of a GetOnlineFeaturesResponse to a request, at a moment (UTC µs).

    Raises:
        InvalidRequest: a key or request column is missing or of another dtype, or an on-demand
            feature cannot be computed of these values.
        OnlineDataMissing, Unavailable: the reader's own.
    """
    count = request.count
    columns = _request(plan, request.request_data, request.entities)
    found = _find(plan, request, as_of, read)
    computed = [_compute(step, found, columns, count) for step in plan.steps]
    trace.mark(COMPUTE)
    nothing = bytes(8 * count)
    statuses = b"".join(
        [one.statuses for one in found] + [_computed_status(frame) for frame in computed]
    )
    event_times = b"".join([one.event_times for one in found] + [nothing] * len(computed))
    trace.answered(statuses, event_times, as_of)
    return answered(
        plan.head,
        [_block(block, found, computed) for block in plan.blocks],
        statuses=statuses,
        event_times=event_times,
        count=count,
        as_of=as_of,
    )


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


def _find(plan: Plan, request: Request, as_of: int, read: Reader) -> list[Found]:
    for column in plan.query.entities:
        if column.name not in request.entities:
            raise InvalidRequest(
                f"entities.{column.name}: missing; bring a column of {column.dtype}"
                f"{suggest(column.name, request.entities)}"
            )
    # Equal keys are one object, so that whoever reads makes what depends on them once.
    entities = [_canonical(keys, request) for keys in plan.entities]
    request.entities.check()
    request.request_data.check()
    asked = [(one.table, entities[one.entity]) for one in plan.reads]
    moving = [
        (of(one.table), entities[one.entity])
        for one in plan.reads
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
        if not one.keys:
            windows = windows and _repeated(windows, request.count)
            rows = rows * request.count  # noqa: PLW2901 - one entity, for every row
        judged.append(_judge(one, rows, windows, as_of, request.max_age))
    return judged


def _canonical(keys: Sequence[Column], request: Request) -> Keys:
    """Give the canonical keys of the columns of one kind of entity."""
    if not keys:
        return [b"\0"]
    plain = [request.entities.plain(key.name, key.dtype) for key in keys]
    known = [one for one in plain if one is not None]
    if len(known) == len(plain):
        return canonical_cells(known, request.count)
    columns = [_typed(request.entities[key.name], key) for key in keys]
    return canonical_keys(cast_keys(pl.DataFrame(columns), keys, "entities"), keys)


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
    layout, (built, pushed) = asked.columns.plan, packed
    try:
        states = decode_states(layout, built)
        if pushed.count(None) < len(pushed):
            states = beside(layout, states, decode_states(layout, pushed))
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


def _judge(
    read: Read,
    rows: list[bytes | None],
    windows: Moving | None,
    as_of: int,
    max_age: int | None,
) -> Found:
    """Say what became of each row: not there, not yet known, too old, null or present.

    No row is too old for windows alone.
    """
    view = read.lookup.view
    try:
        decoded = read.layout.decode(rows)
    except CorruptData as error:
        raise CorruptData(f"{view.name}.{read.table}: {error}") from error
    event, known = decoded.event_time, known_times(view, decoded)
    age = view.ttl
    if max_age is not None:
        age = max_age if age is None else min(age, max_age)
    shown, statuses, times = None, bytes([PRESENT]) * len(rows), event
    timely = decoded.complete and known.max() <= as_of and not (windows and windows.early.any())
    moving = windows.groups if windows else ()
    if not timely or (age is not None and event.min() < as_of - age):
        shown, statuses, times = _weighed(read, decoded, known, windows, as_of, age)
    elif not (read.asked and decoded.full) and not any(one.valid.all() for one in moving):
        valued = _valued(read, decoded, moving)
        statuses = np.where(valued, PRESENT, NULL_VALUE).astype("u1").tobytes()
    return Found(
        decoded=decoded,
        shown=shown,
        statuses=statuses,
        event_times=times.astype("<i8", copy=False).tobytes(),
        moving=moving,
    )


def _valued(read: Read, decoded: Decoded, moving: Sequence[Group]) -> Mask:
    """Say of each row whether any of what is asked of it has a value."""
    asked = decoded.valid[:, read.asked].any(axis=1)
    found: Mask = np.logical_or.reduce([asked, *(one.valid.any(axis=1) for one in moving)])
    return found


def _weighed(
    read: Read,
    decoded: Decoded,
    known: Times,
    windows: Moving | None,
    as_of: int,
    age: int | None,
) -> tuple[Mask | None, bytes, Times]:
    """Judge row by row: which values count, the statuses, and the times of what was found."""
    event = decoded.event_time
    there = decoded.present & ~decoded.tombstone
    early = there & (known > as_of)
    shown = there & ~early
    if age is not None:
        shown &= event >= as_of - age
    valued = _valued(read, decoded, windows.groups if windows else ())
    hidden = ~shown if read.asked else np.zeros(len(event), np.bool_)
    if windows is not None:
        early = early | (there & windows.early)
    statuses = np.select(
        [~there, early, hidden, ~valued],
        [NOT_FOUND, NOT_YET_KNOWN, OUTSIDE_MAX_AGE, NULL_VALUE],
        PRESENT,
    )
    every = bool(shown.all())
    return None if every else shown, statuses.astype("u1").tobytes(), np.where(there, event, 0)


def _stored(found: Found, names: Sequence[str]) -> dict[str, pl.Series]:
    """Give features' columns, null where their rows do not count."""
    moving = {name: group for group in found.moving for name in group.names}
    own = [name for name in names if name not in moving]
    columns = dict(zip(own, found.decoded.columns(own), strict=True))
    if found.shown is not None:
        columns = {name: masked(column, found.shown) for name, column in columns.items()}
    for name in names:
        if name in moving:
            group = moving[name]
            columns[name] = restore(Column(name=name, dtype=group.dtype), group)
    return columns


def _compute(
    step: Step, found: Sequence[Found], request: Mapping[str, pl.Series], count: int
) -> pl.DataFrame:
    binds = step.compute.binds
    stored = {
        lookup: _stored(found[lookup], [bind.field for bind in binds if bind.lookup == lookup])
        for lookup in {bind.lookup for bind in binds if bind.lookup is not None}
    }
    columns = {
        bind.column: request[bind.field] if bind.lookup is None else stored[bind.lookup][bind.field]
        for bind in binds
    }
    return compute(columns, count, step.program)


def _computed_status(frame: pl.DataFrame) -> bytes:
    if not all(column.null_count() for column in frame):
        return bytes([PRESENT]) * frame.height
    null = np.logical_and.reduce([column.is_null().to_numpy() for column in frame])
    return np.where(null, NULL_VALUE, PRESENT).astype("u1").tobytes()


def _block(block: BlockPlan, found: Sequence[Found], computed: Sequence[pl.DataFrame]) -> bytes:
    """Gather a block's columns: whole groups by copy, the others as series."""
    series = [
        _stored(found[place.read], [place.name])[place.name]
        if place.read is not None
        else computed[place.step or 0].get_column(place.name)
        for place in block.places
    ]
    if not block.copies:
        return block_of(block.head, grid_bytes(grid_of(series, block.dtype)))
    texts = [one for one in block.copies if isinstance(one, Texts)]
    if texts:
        strings = [
            found[one.read].decoded.texts(one.sources, found[one.read].shown) for one in texts
        ]
        strings += [texts_of(grid_of([column], block.dtype)) for column in series]
        return block_of(block.head, strings_of(strings))
    runs = [_run(found[one.read], one) for one in block.copies if isinstance(one, Copy)]
    if series:
        runs.append(run_of(grid_of(series, block.dtype)))
    return block_of(block.head, values_of(block.dtype, runs))


def _run(found: Found, copy: Copy) -> Run:
    """Give columns of a group, by column and row; a null stands as zero, or is not valid."""
    own = copy.sources
    if copy.moving:
        group = found.moving[copy.group]
        there = group.valid[:, own].T
        return group.values[:, own].T, None if there.all() else there, None
    values, inner = found.decoded.values(copy.group)
    valid: Mask | None = None
    if found.shown is not None or not found.decoded.full:
        valid = found.decoded.group(copy.group).valid[:, own].T
        valid = valid if found.shown is None else valid & found.shown
    inner = None if inner is None else np.swapaxes(inner[:, own], 0, 1)
    return np.swapaxes(values[:, own], 0, 1), valid, inner
