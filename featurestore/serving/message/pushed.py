"""What a push came to, as notebooks, clients and the command line are told it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.names import suggest
from featurestore.model.pushes import REFUSALS, no_refusals
from featurestore.model.time import show
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.message.frames import sendable

To = Literal["online_and_offline", "online", "offline"]
"""Where pushed rows go."""

PLACES: Mapping[int, To] = MappingProxyType(
    {
        pb.PUSH_TO_UNSPECIFIED: "online_and_offline",
        pb.PUSH_TO_ONLINE: "online",
        pb.PUSH_TO_OFFLINE: "offline",
        pb.PUSH_TO_ONLINE_AND_OFFLINE: "online_and_offline",
    }
)
"""Where rows go, by the number that travels; of two that mean the same the last is sent."""

_MOST = 100
"""How many refusals travel."""


def where(to: Any) -> To:
    """Give where rows go, said in words or by Feast's `PushMode`.

    Raises:
        InvalidRequest: it is neither.
    """
    said = str(getattr(to, "name", to)).lower()
    if said not in get_args(To):
        raise InvalidRequest(f"to: {said!r} is no place for rows{suggest(said, get_args(To))}")
    return cast("To", said)


def named(source: Any) -> str:
    """Give a source's name, if it can be one.

    Raises:
        InvalidRequest: it is no text, or empty.
    """
    if not (isinstance(source, str) and source):
        raise InvalidRequest(f"push_source_name: give the PushSource's name, not {source!r:.40}")
    return sendable(source, "push_source_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Online:
    """What a push came to in a table that is served.

    Of `rows` that the view made of the push, `written` are their keys' newest now. `later` more are
    known only at moments up to `known_at` (UTC microseconds), and come with materialization; so do
    the windows of `waiting` rows, with an event before those that are kept one by one. Of a
    table that is `missing` in Redis nothing was written. Where rows went online only, nothing
    brings any of these: they are `lost`.
    """

    view: str
    version: str
    table: str
    rows: int
    written: int
    later: int = 0
    waiting: int = 0
    known_at: int | None = None
    missing: bool = False
    lost: int = 0

    def __str__(self) -> str:
        if self.missing and self.lost:
            return (
                "not in Redis: its rows were not written, and nothing will bring them; run "
                "`featurestore rebuild-online`, then push them again"
            )
        if self.missing:
            return "not in Redis: run `featurestore rebuild-online`, or materialize"
        told = f"{self.written:,} of {self.rows:,} rows are their keys' newest"
        if self.later:
            then = "were not written" if self.lost else "come with materialization"
            told += f"; {self.later:,} known only at {show(self.known_at)}: {then}"
        if self.waiting:
            then = "are not in them" if self.lost else "come with materialization"
            told += f"; {self.waiting:,} too late for windows: {then}"
        if self.lost:
            told += "; nothing will bring these: push them to online_and_offline"
        return told

    def alone(self) -> "Online":
        """Give the same of rows that went online only."""
        gone = self.later + (self.rows if self.missing else self.waiting)
        return replace(self, lost=gone)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PushResult:
    """What became of pushed rows.

    `accepted` rows were taken and `refused_rows` were not. `refused` says why: the number of the
    row (null: every row, of a view), the column or view that it is about, and the reason; from a
    server only the first ones come. `online` is about each table that is served, `offline` says how
    safe the rows are.
    """

    source: str
    to: To
    accepted: int
    refused_rows: int
    refused: pl.DataFrame
    online: tuple[Online, ...]
    offline: str

    def __repr__(self) -> str:
        counts = f"{self.accepted:,} rows accepted, {self.refused_rows:,} refused"
        lines = [
            f"<PushResult {self.source}: {counts}>",
            f"  offline: {self.offline}",
            *(f"  {one.version}: {one}" for one in self.online),
            *(
                f"  {'every row' if row is None else f'row {row}'}, {at or 'the call'}: {reason}"
                for row, at, reason in self.refused.head(5).iter_rows()
            ),
        ]
        more = self.refused.height - 5
        return "\n".join([*lines, f"  and {more:,} more refusals"] if more > 0 else lines)


def response_of(result: PushResult) -> pb.PushResponse:
    """Give the message of a result; of its refusals the first ones."""
    return pb.PushResponse(
        accepted=result.accepted,
        refused=result.refused_rows,
        refusals=[
            pb.Refusal(row=row, at=at, reason=reason)
            for row, at, reason in result.refused.head(_MOST).iter_rows()
        ],
        refusal_count=result.refused.height,
        online=[pb.Pushed(**asdict(one)) for one in result.online],
        offline=result.offline,
    )


def read_result(source: str, to: To, raw: bytes) -> PushResult:
    """Read a result back from a server's answer."""
    message = pb.PushResponse.FromString(raw)
    told = [
        (one.row if one.HasField("row") else None, one.at, one.reason) for one in message.refusals
    ]
    return PushResult(
        source=source,
        to=to,
        accepted=message.accepted,
        refused_rows=message.refused,
        refused=pl.DataFrame(told, schema=REFUSALS, orient="row") if told else no_refusals(),
        online=tuple(
            Online(
                view=one.view,
                version=one.version,
                table=one.table,
                rows=one.rows,
                written=one.written,
                later=one.later,
                waiting=one.waiting,
                known_at=one.known_at if one.HasField("known_at") else None,
                missing=one.missing,
                lost=one.lost,
            )
            for one in message.online
        ),
        offline=message.offline,
    )
