"""Our handler without gRPC: where a call's time goes, stage by stage, one call after the other.

The stages are those of the code itself: functions are wrapped so that they say when they begin and
end, and so are the socket's send and receive. What saying so takes is measured and taken off. The
whole call is measured beforehand, with nothing wrapped.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from child import main
from servers import PROJECT
from stages import (
    CLOCKS,
    COMMAND,
    DEMAND,
    ENCODE,
    KEYS,
    METRICS,
    PARSE,
    REPLY,
    REST,
    ROWS,
    SOCKET,
    STATUSES,
    SUM,
    WHOLE,
    Clock,
)

from featurestore.serving.answer import lookup
from featurestore.serving.answer.respond import respond
from featurestore.serving.answer.state import read_release, state_of
from featurestore.serving.answer.trace import COMPUTE
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.message.locks import Locks
from featurestore.serving.process.calls import Call, Desk
from featurestore.serving.process.counters import Counters
from featurestore.serving.process.memory import keep_freed
from featurestore.serving.process.metrics import Page
from featurestore.serving.process.server import now
from featurestore.storage import redis as store_module
from featurestore.storage.redis import OnlineStore
from featurestore.storage.rows import RowLayout

_WARM, _LEAST = 20, 5
_METHOD = "GetOnlineFeatures"
Handler = Callable[[bytes, Any], bytes]


class Context:
    """A call as gRPC shows it, with no metadata and no deadline, as the load generator's is."""

    def invocation_metadata(self) -> None:
        """Give nothing."""

    def time_remaining(self) -> None:
        """Give no end."""

    def set_trailing_metadata(self, _: object) -> None:
        """Drop it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What is called."""

    method: str


def profile(*, url: str, request: str, reply: str, seconds: float) -> Mapping[str, float]:
    """Answer one request over and over; give the microseconds of each stage, by both clocks."""
    raw, expected = Path(request).read_bytes(), Path(reply).read_bytes()
    keep_freed()
    store = OnlineStore.connect(url, project=PROJECT, timeout=5)
    clocks = {name: Clock(clock) for name, clock in CLOCKS.items()}
    current = [next(iter(clocks.values()))]

    def to(stage: str) -> str:
        return current[0].to(stage)

    handler, wrapping = _handler(store, to)
    for _ in range(_WARM):
        if handler(raw, Context()) != expected:
            sys.stderr.write("the handler's reply has not the bytes of the one through gRPC\n")
            raise SystemExit(1)
    found = {
        f"{name} {WHOLE}": _whole(handler, raw, clock, seconds) for name, clock in CLOCKS.items()
    }
    _wrap(wrapping)
    for name, clock in clocks.items():
        current[0] = clock
        stages = _staged(handler, raw, clock, seconds, wrapping)
        found |= {f"{name} {stage}": took for stage, took in stages.items()}
        found[f"{name} {SUM}"] = sum(stages.values())
    store.close()
    return found


def _handler(store: OnlineStore, to: Callable[[str], str]) -> tuple[Handler, "Wrapping"]:
    """Give what gRPC would call, on the store's release, and how a function gets a stage."""
    wrapping = Wrapping(to)
    number = store.alias("prod")
    text = store.release(number) if number is not None else None
    if text is None:
        raise SystemExit("no release in Redis")
    state, locks, limits = state_of(read_release(text, project=PROJECT)), Locks(PROJECT), Limits()

    def read(wanted: Any, *, timeout: float | None) -> Any:
        to(COMMAND)
        rows = store.read(wanted, timeout=timeout)
        to(STATUSES)
        return rows

    def answered(raw: bytes, call: Call) -> bytes:
        to(PARSE)
        reply = respond(
            state,
            raw,
            most=limits.rows,
            clock=now,
            read=call.reading(read),
            locks=locks,
            trace=call,
        )
        to(REST)
        return reply

    desk = Desk(
        {_METHOD: answered},
        counters=Counters(Page.new()),
        limits=limits,
        access=None,
        slow=None,
        troubled=lambda: None,
        begun=lambda: None,
    )
    details = Details(method=f"/{SERVICE}/{_METHOD}")

    def handle(raw: bytes, context: Any) -> bytes:
        # As gRPC does: who asks is looked up first, by another thread there.
        reply: bytes = desk.service(details).unary_unary(raw, context)
        return reply

    return handle, wrapping


class Wrapping:
    """Puts a stage around functions where they stand."""

    def __init__(self, to: Callable[[str], str]) -> None:
        self._to = to

    def around(
        self, work: Callable[..., Any], stage: str, after: str | None = None
    ) -> Callable[..., Any]:
        """Give a function that is a stage: the one that was goes on behind it, or `after` does."""
        to = self._to

        def wrapped(*given: Any, **named: Any) -> Any:
            before = to(stage)
            try:
                return work(*given, **named)
            finally:
                to(after or before)

        return wrapped

    def put(self, owner: Any, name: str, stage: str, after: str | None = None) -> None:
        """Make a function of a module or class a stage."""
        work = getattr(owner, name, None)
        if work is None:
            raise SystemExit(
                f"{owner.__name__}.{name} is gone: say in benchmarks/cases/serving_stages.py which "
                f"function is the stage {stage!r} now"
            )
        setattr(owner, name, self.around(work, stage, after))


def _wrap(wrapping: Wrapping) -> None:
    """Make the functions of a call its stages."""
    wrapping.put(store_module, "tags_of", KEYS)
    wrapping.put(store_module, "redis_keys", KEYS)
    wrapping.put(socket.socket, "sendall", SOCKET)
    wrapping.put(socket.socket, "recv_into", SOCKET, REPLY)
    wrapping.put(RowLayout, "decode", ROWS)
    wrapping.put(lookup, "_compute", DEMAND)
    wrapping.put(Call, "answered", METRICS)
    wrapping.put(Call, "finish", METRICS)
    wrapping.put(Call, "planned", METRICS, KEYS)
    marked = Call.mark
    last = wrapping.around(marked, METRICS, ENCODE)
    other = wrapping.around(marked, METRICS)

    def mark(call: Call, stage: int) -> None:
        (last if stage == COMPUTE else other)(call, stage)

    setattr(Call, "mark", mark)  # noqa: B010 - a method that is not to be assigned to


def _whole(handler: Handler, raw: bytes, clock: Callable[[], int], seconds: float) -> float:
    took, ends, context = [], time.monotonic() + seconds, Context()
    while len(took) < _LEAST or time.monotonic() < ends:
        began = clock()
        handler(raw, context)
        took.append(clock() - began)
    return median(took) / 1000


def _staged(
    handler: Handler, raw: bytes, clock: Clock, seconds: float, wrapping: Wrapping
) -> dict[str, float]:
    """Give each stage's median, in microseconds."""
    change = clock.change(wrapping.around(lambda: None, REST))
    took, ends, context = [], time.monotonic() + seconds, Context()
    while len(took) < _LEAST or time.monotonic() < ends:
        clock.began()
        handler(raw, context)
        took.append(clock.ended(change))
    return {stage: median(one[stage] for one in took) / 1000 for stage in took[0]}


if __name__ == "__main__":
    if os.environ.get("POLARS_MAX_THREADS") != "1":
        raise SystemExit("POLARS_MAX_THREADS: must be 1, as in a server")
    raise SystemExit(main(profile))
