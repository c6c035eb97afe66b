"""What stands around every call: who asks, how much, how long it took, and the status of errors."""

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from secrets import token_hex
from typing import Any, NoReturn

import grpc

from featurestore.errors import (
    DeadlineExceeded,
    FeatureStoreError,
    OnlineDataMissing,
    Overloaded,
    Unavailable,
)
from featurestore.serving.answer.lookup import Reader
from featurestore.serving.answer.plan import Plan
from featurestore.serving.answer.state import Wanted
from featurestore.serving.answer.trace import ENCODE, PARSE, QUEUE, REDIS, Trace
from featurestore.serving.message.faults import KEY, code_of
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.access import Access, Caller
from featurestore.serving.process.cache import Reading
from featurestore.serving.process.counters import Counters
from featurestore.serving.process.log import NAME, Sampler, told
from featurestore.serving.process.metrics import (
    CELLS,
    CODES,
    KEYS,
    LATENCY,
    METHODS,
    REJECTED,
    REQUESTS,
    ROWS,
    STAGE,
    STAGES,
)
from featurestore.serving.process.reread import Reread

REQUEST_ID = "x-request-id"
"""Metadata: a caller's own name for a call, else one that is made; it comes back."""

_LOG = logging.getLogger(NAME)
_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_OURS, _MADE = token_hex(6), count(1)
"""Ids that we make: of this process, and a number."""
_PATIENCE = 30.0
"""Seconds that a call may take whose caller would wait for ever."""
_MESSAGE = 600
"""Most characters of an error that travel: escaped, at twelve bytes each, they fit 8 KiB."""
_CODES = {code: number for number, code in enumerate(CODES)}
_LOOKUP = METHODS.index("GetOnlineFeatures")
_COST, _WAIT = (REJECTED.start + REJECTED.series.index(one) for one in ("cost", "wait"))


class Call(Trace):
    """One call in hand: whose it is, what it asks for, and where its time goes (ns).

    `ends` is the moment of `time.monotonic` after which nobody waits for it.
    """

    __slots__ = (
        "_block", "_counters", "_keys", "_last", "_limits", "_named", "arrived", "caller", "ends",
        "id", "method", "nanos", "outputs", "rows",
    )  # fmt: skip

    def __init__(self, method: int, arrived: int, counters: Counters, limits: Limits) -> None:
        self.method = method
        self.arrived = self._last = arrived
        self.nanos = [0] * len(STAGES)
        self.id = ""
        self.ends = 0.0
        self.caller: Caller | None = None
        self.rows = self.outputs = 0
        self._named = False
        self._keys = 0
        self._counters = counters
        self._limits = limits
        self._block = counters.block

    def mark(self, stage: int) -> None:
        """End a stage."""
        now = time.perf_counter_ns()
        self.nanos[stage] += now - self._last
        self._last = now

    def wanted(self, wanted: Wanted) -> None:
        """Refuse a service that is not for this caller."""
        self._named = isinstance(wanted, str)
        if self.caller is not None and isinstance(wanted, str):
            self.caller.check_service(wanted)

    def planned(self, plan: Plan, rows: int) -> None:
        """Refuse what is not for this caller, too large, or too much with all that is in hand."""
        self.permitted(plan)
        outputs, views = len(plan.query.outputs), len(plan.reads)
        self.rows, self.outputs, self._keys = rows, outputs, rows * views
        self._limits.check(rows=rows, outputs=outputs, views=views)
        block = self._block.numbers
        # Each thread says first what it takes on, so that two at once cannot both overlook it.
        block[CELLS] = cells = rows * outputs
        taken = self._counters.cells()
        if cells < taken > self._limits.cells:
            block[CELLS] = 0
            block[_COST] += 1
            raise Overloaded(
                f"entities: {rows} rows of {outputs} features are {cells} values, and with what is "
                f"in hand {taken}, at most {self._limits.cells} at a time; try again in a moment, "
                "or ask for less at once"
            )

    def permitted(self, plan: Plan) -> None:
        """Refuse references, and a lock's features, that are not for this caller."""
        if self.caller is not None and not self._named:
            self.caller.check_features(_features(plan))

    def answered(self, statuses: bytes, event_times: bytes, as_of: int) -> None:
        """Count what is answered."""
        self._block.answered(statuses, event_times, as_of)

    @property
    def left(self) -> float:
        """The seconds that the call has left, at least a thousandth."""
        return max(self.ends - time.monotonic(), 0.001)

    @property
    def waited(self) -> float:
        """The seconds that the call waited for its turn."""
        return self.nanos[QUEUE] / 1e9

    def reading(self, read: Reading) -> Reader:
        """Give a reader that ends with the call, and says when it begins and ends."""

        def timed(wanted: Any) -> Any:
            self.mark(PARSE)
            try:
                return read(wanted, timeout=self.left)
            finally:
                self.mark(REDIS)

        return timed

    def finish(self, code: str) -> int:
        """Count the call, which is over; gives how long it took, in nanoseconds."""
        self.mark(ENCODE)
        took = self._last - self.arrived
        block = self._block.numbers
        block[CELLS] = 0
        block[REQUESTS.start + self.method * len(CODES) + _CODES.get(code, len(CODES) - 1)] += 1
        LATENCY.observe(block, took, LATENCY.start + self.method * LATENCY.width)
        if self.method == _LOOKUP:
            block[ROWS.start] += self.rows
            KEYS.observe(block, self._keys, KEYS.start)
            start = STAGE.start
            for nanos in self.nanos:
                STAGE.observe(block, nanos, start)
                start += STAGE.width
        return took


Method = Callable[[bytes, Call], bytes]


class Desk:
    """Where gRPC brings the calls of our service: each method gets its bytes and its `Call`.

    `slow` is how many seconds a call may take without being told of; None tells of none.
    `troubled` is called when an answer failed for the store's sake, `begun` when a call's message
    is here.
    """

    def __init__(
        self,
        methods: Mapping[str, Method],
        *,
        counters: Counters,
        limits: Limits,
        access: Reread[Access] | None,
        slow: float | None,
        troubled: Callable[[], None],
        begun: Callable[[], None],
    ) -> None:
        self._methods = {
            f"/{SERVICE}/{name}": (METHODS.index(name), method) for name, method in methods.items()
        }
        self._counters = counters
        self._limits = limits
        self._access = access
        self._slow = None if slow is None else round(slow * 1e9)
        self._troubled = troubled
        self._begun = begun
        self._refused = Sampler()
        self._telling = threading.Lock()

    def service(self, details: Any) -> Any:
        """Give what handles a call; runs in the thread that all calls come by."""
        found = self._methods.get(details.method)
        if found is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            partial(self._answer, time.perf_counter_ns(), *found)
        )

    def _answer(self, arrived: int, number: int, method: Method, raw: bytes, context: Any) -> bytes:
        """Answer with a status for every error of ours, and drop calls nobody waits for."""
        self._begun()
        call = Call(number, arrived, self._counters, self._limits)
        call.mark(QUEUE)
        code = "UNKNOWN"
        try:
            self._admit(call, context)
            reply = method(raw, call)
            code = "OK"
        except FeatureStoreError as error:
            code = code_of(error).name
            self._tell_refused(call, code, error)
            if isinstance(error, Unavailable | OnlineDataMissing) and not isinstance(
                error, Overloaded
            ):
                self._troubled()
            _refuse(context, call, error)
        finally:
            took = call.finish(code)
            if self._slow is not None and took >= self._slow:
                _tell_slow(call, code, took)
        context.set_trailing_metadata(((REQUEST_ID, call.id),))
        return reply

    def _admit(self, call: Call, context: Any) -> None:
        """Drop a call that is too late, and say who asks.

        Of more calls than can be answered, the oldest come first and would each be begun just
        before their deadlines, and none be answered in time: so half of its time must be left.
        """
        sent = dict(context.invocation_metadata() or ())
        call.id = request_id(sent.get(REQUEST_ID))
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise DeadlineExceeded("the call's deadline had passed before its turn came")
        call.ends = time.monotonic() + (_PATIENCE if left is None else left)
        if left is not None and left < call.waited:
            self._counters.block.numbers[_WAIT] += 1
            raise Overloaded(
                f"the call waited {call.waited * 1e3:.0f} ms for its turn, longer than it has left:"
                " the server has more in hand than it does in time; try again in a moment, and if "
                "it stays so, start more workers"
            )
        if self._access is not None:
            call.caller = self._access.now.who(sent.get("authorization"), _subjects(context))

    def _tell_refused(self, call: Call, code: str, error: FeatureStoreError) -> None:
        with self._telling:
            untold = self._refused.take(time.monotonic())
        if untold is None:
            return
        kind, method = type(error).__name__, METHODS[call.method]
        more = f" ({untold} more since the last)" if untold else ""
        caller = "" if call.caller is None else call.caller.name
        _LOG.warning(
            "%s %s: %s, %s%s", method, call.id, code, kind, more,
            extra=told(
                "rejected", id=call.id, method=method, code=code, error=kind, caller=caller,
                untold=untold,
            ),
        )  # fmt: skip


def request_id(sent: object) -> str:
    """Give a caller's id of a call if it is one, else a new one."""
    if isinstance(sent, str) and _ID.fullmatch(sent):
        return sent
    return f"{_OURS}-{next(_MADE):x}"


def _subjects(context: Any) -> Sequence[str]:
    """Give the names in a client's certificate, which gRPC has checked against the authority."""
    proven: Mapping[str, Sequence[bytes]] = context.auth_context()
    return [
        name.decode("utf-8", "replace")
        for key in ("x509_common_name", "x509_subject_alternative_name")
        for name in proven.get(key, ())
    ]


def _features(plan: Plan) -> Sequence[str]:
    query = plan.query
    views = [
        query.computes[one.compute].view
        if one.compute is not None
        else query.lookups[one.lookup or 0].view
        for one in query.outputs
    ]
    return [
        f"{view.name}:{one.feature.name}" for view, one in zip(views, query.outputs, strict=True)
    ]


def _tell_slow(call: Call, code: str, took: int) -> None:
    method = METHODS[call.method]
    stages = {name: round(one / 1e6, 3) for name, one in zip(STAGES, call.nanos, strict=True)}
    spent = ", ".join(f"{name} {one:g}" for name, one in stages.items())
    _LOG.warning(
        "%s %s: slow, %.1f ms (%s), %d rows of %d features: %s",
        method, call.id, took / 1e6, spent, call.rows, call.outputs, code,
        extra=told(
            "slow", id=call.id, method=method, code=code, milliseconds=round(took / 1e6, 3),
            stages=stages, rows=call.rows, features=call.outputs,
        ),
    )  # fmt: skip


def _refuse(context: Any, call: Call, error: FeatureStoreError) -> NoReturn:
    context.set_trailing_metadata(((KEY, type(error).__name__), (REQUEST_ID, call.id)))
    # Metadata has its own size limit, and a message can quote a name of megabytes.
    context.abort(code_of(error), str(error)[:_MESSAGE])
    raise AssertionError  # abort does not return
