"""What stands for servers in the tests of who uses them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from featurestore.errors import InvalidRequest, NotFound, Unsupported
from featurestore.model.names import suggest
from featurestore.model.pushes import REFUSALS
from featurestore.model.schema import Column, dtype_name
from featurestore.model.time import EVENT, MOMENT
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.requests import Request, read_push, reading
from featurestore.serving.client.asking import Call, normal
from featurestore.serving.message import twin
from featurestore.serving.message.frames import frame_of
from featurestore.serving.message.limits import Limits
from featurestore.serving.message.pushed import PushResult, response_of
from featurestore.serving.message.wire import grid_of, put
from featurestore.storage.keys import cast_keys

STATUS = "status"
_SHOWN = (pb.STATUS_PRESENT, pb.STATUS_NULL_VALUE)
_THERE = "\0there"
"""A column of ours beside those of a view, under a name that none of them has."""


class InMemoryTransport:
    """Answers clients from frames: `FeatureClient(transport=InMemoryTransport(…))`.

    `views` are frames by name: join keys, features and, if they matter, `event_timestamp` (UTC,
    else 1970) and `status` (else PRESENT, or NULL_VALUE if all features asked for are null). Keys
    without a row are NOT_FOUND; a row of an event after `as_of` is NOT_YET_KNOWN. `join_keys`
    names those of each view; one with none answers its one row to all. `services` are lists of
    `view:feature`, or of views. On-demand features are columns here like all others. `pushed`
    collects what is pushed, as (source, frame). `clock` gives UTC microseconds.

    Raises:
        InvalidRequest: a key is missing or twice in a view, or a status or an event time is none.
    """

    address = "memory"

    def __init__(
        self,
        views: Mapping[str, Any],
        *,
        join_keys: Mapping[str, Sequence[str]],
        services: Mapping[str, Sequence[str]] | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._keys = {name: sorted(join_keys.get(name, ())) for name in views}
        self._views = {
            name: _prepared(frame_of(given, f"views.{name}"), self._keys[name], f"views.{name}")
            for name, given in views.items()
        }
        self._services = dict(services or {})
        self._clock = clock
        self.pushed: list[tuple[str, pl.DataFrame]] = []

    def __call__(self, call: Call) -> bytes:
        """Answer a call."""
        if call.method == "GetOnlineFeatures":
            return reading(call.raw, self._answer, most=Limits().rows)
        if call.method == "Push":
            push = read_push(call.raw)
            self.pushed.append((push.source, push.rows))
            taken = PushResult(
                source=push.source,
                to=push.to,
                accepted=push.rows.height,
                refused_rows=0,
                refused=pl.DataFrame(schema=REFUSALS),
                online=(),
                offline="in memory",
            )
            return response_of(taken).SerializeToString()
        raise Unsupported(f"{call.method}: is not answered in memory; ask a server")

    def close(self) -> None:
        """Do nothing."""

    def _answer(self, request: Request) -> bytes:
        asked = self._asked(request)
        as_of = self._clock() if request.as_of is None else request.as_of
        oldest = None if request.max_age is None else as_of - request.max_age
        message = twin.GetOnlineFeaturesResponse(count=request.count, release=1, as_of=as_of)
        uses = list(dict.fromkeys(view for view, _ in asked))
        rows = {
            view: self._rows(view, request, [f for v, f in asked if v == view], as_of, oldest)
            for view in uses
        }
        blocks: dict[str, list[tuple[int, pl.Series]]] = {}
        for number, (view, feature) in enumerate(asked):
            name = f"{view}__{feature}" if request.full_feature_names else feature
            if name in message.names:
                raise InvalidRequest(f"features: two would both be called {name!r}")
            message.names.append(name)
            message.output_projections.append(uses.index(view))
            column = rows[view][feature]
            blocks.setdefault(dtype_name(column.dtype), []).append((number, column))
        for view in uses:
            message.projections.add(alias=view, view=view, version="in-memory")
        for dtype, block in blocks.items():
            values = message.blocks.add(outputs=[number for number, _ in block]).values
            put(grid_of([column for _, column in block], dtype), values)
        message.statuses = b"".join(rows[view][STATUS].to_numpy().tobytes() for view in uses)
        message.event_times = b"".join(rows[view][EVENT].to_numpy().tobytes() for view in uses)
        raw: bytes = message.SerializeToString()
        return raw

    def _asked(self, request: Request) -> list[tuple[str, str]]:
        """Give (view, feature) of each output."""
        wanted = request.wanted
        if isinstance(wanted, str):
            _known(wanted, self._services, "feature_service")
            wanted = tuple(self._services[wanted])
        if not isinstance(wanted, tuple):
            raise Unsupported("lock: none is answered in memory; ask without the lock")
        found: list[tuple[str, str]] = []
        for one in wanted:
            view, _, feature = one.partition(":")
            _known(view, self._views, "features")
            there = self._views[view].columns
            features = [n for n in there if n not in (*self._keys[view], EVENT, STATUS, _THERE)]
            if feature:
                _known(feature, features, one)
            found += [(view, name) for name in ([feature] if feature else features)]
        return found

    def _rows(
        self,
        view: str,
        request: Request,
        features: Sequence[str],
        as_of: int,
        oldest: int | None,
    ) -> pl.DataFrame:
        """Give each asked row's features, status number and event time of a view."""
        frame, keys = self._views[view], self._keys[view]
        columns = [Column(name=key, dtype=dtype_name(frame.schema[key])) for key in keys]
        brought = pl.DataFrame([request.entities[key] for key in keys if key in request.entities])
        found = pl.DataFrame({_THERE: [True] * request.count}).hstack(
            cast_keys(brought, columns, "entities")
        )
        joined = found.join(frame, on=[_THERE, *keys], how="left", maintain_order="left")
        present = pl.col(EVENT).is_not_null()
        valued = pl.any_horizontal(pl.col(*features).is_not_null())
        judged = (
            pl.when(~present)
            .then(pb.STATUS_NOT_FOUND)
            .when(pl.col(STATUS).is_not_null())
            .then(STATUS)
            .when(pl.col(EVENT) > as_of)
            .then(pb.STATUS_NOT_YET_KNOWN)
            .when(pl.lit(oldest is not None) & (pl.col(EVENT) < (oldest or 0)))
            .then(pb.STATUS_OUTSIDE_MAX_AGE)
            .when(valued)
            .then(pb.STATUS_PRESENT)
            .otherwise(pb.STATUS_NULL_VALUE)
        )
        told = joined.with_columns(judged.cast(pl.UInt8).alias(STATUS), pl.col(EVENT).fill_null(0))
        shown = pl.col(STATUS).is_in(_SHOWN)
        return told.with_columns(pl.when(shown).then(pl.col(*features)))


def _prepared(frame: pl.DataFrame, keys: Sequence[str], path: str) -> pl.DataFrame:
    """Give a view's frame with an event time (0 if it said none) and a status number or null."""
    missing = [key for key in keys if key not in frame.columns]
    if missing:
        raise InvalidRequest(f"{path}: has no column of the join key {missing[0]!r}")
    if frame.height > 1 and (not keys or frame.select(keys).is_duplicated().any()):
        raise InvalidRequest(f"{path}: has two rows of one key; give each key one row")
    if EVENT not in frame.columns:
        frame = frame.with_columns(pl.lit(0).cast(MOMENT).alias(EVENT))
    if not isinstance(frame.schema[EVENT], pl.Datetime) or frame[EVENT].has_nulls():
        raise InvalidRequest(f"{path}.{EVENT}: is not a datetime in each row; cast it, fill it")
    if STATUS not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(STATUS))
    numbers = {name.removeprefix("STATUS_"): number for name, number in pb.Status.items()}
    odd = set(frame[STATUS].cast(pl.String).drop_nulls()) - set(numbers)
    if odd:
        raise InvalidRequest(f"{path}.{STATUS}: {min(odd)!r} is none{suggest(min(odd), numbers)}")
    return pl.DataFrame(list(normal(frame.iter_columns(), path))).with_columns(
        pl.col(EVENT).to_physical(),
        pl.col(STATUS).replace_strict(numbers, default=None, return_dtype=pl.UInt8),
        pl.lit(value=True).alias(_THERE),
    )


def _known(name: str, names: Any, path: str) -> None:
    if name not in names:
        raise NotFound(f"{path}: {name!r} is not known in memory{suggest(name, list(names))}")
