"""The gRPC server: one project, one alias, one release at a time."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.requests import read_push
from featurestore.serving.answer.respond import respond
from featurestore.serving.answer.state import State, describe
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.message.locks import LockReference, Locks, Pinned
from featurestore.serving.message.pushed import response_of
from featurestore.serving.process.access import Access
from featurestore.serving.process.cache import Cache, Reading
from featurestore.serving.process.calls import Call, Desk
from featurestore.serving.process.counters import Counters, Pool
from featurestore.serving.process.listening import Tls, cannot_listen, check_public
from featurestore.serving.process.log import NAME, Sampler, told
from featurestore.serving.process.metrics import Page, render
from featurestore.serving.process.reread import Reread
from featurestore.serving.process.watch import Standing, Watch
from featurestore.serving.push.push import Sink, check_source, deliver, judge
from featurestore.storage.redis import OnlineStore

_LOG = logging.getLogger(NAME)
_UP, _DOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)

_AGE, _GRACE = 600_000, 30_000
"""Milliseconds a connection lives, and its calls after that: none is held for ever by a client."""

Clock = Callable[[], int]
T = TypeVar("T")


def now() -> int:
    """Give the system's clock, UTC microseconds since 1970."""
    return time.time_ns() // 1000


class Server:
    """A server bound to `host:port` (0: a free port); `start` it, `stop` it once.

    With `access` it answers only callers named there. A host that is not loopback needs `tls`, or
    `insecure` said. Either may be files that are read again when they change. `page` is where it
    counts; `shared` lets other processes listen there, too. Calls that take longer than `slow`
    seconds are logged.
    """

    def __init__(
        self,
        store: OnlineStore,
        *,
        project: str,
        alias: str = "prod",
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = now,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        sink: Callable[[OnlineStore], Sink] | None = None,
        tls: Tls | Reread[Tls] | None = None,
        access: Access | Reread[Access] | None = None,
        insecure: bool = False,
        page: Page | None = None,
        shared: bool = False,
        slow: float | None = None,
    ) -> None:
        check_public(host, tls=tls is not None, insecure=insecure)
        self._store = store
        self._read: Reading = store.read
        if limits.kept_rows:
            self._read = Cache(store.read, entries=limits.kept_rows, age=limits.kept_for).read
        self._sink = sink
        self._project = project
        self._clock = clock
        self._limits = limits
        self._locks = Locks(project)
        tls, access = _read(tls), _read(access)
        self._watch = Watch(
            store,
            project=project,
            alias=alias,
            interval=limits.poll,
            changed=self._report,
            beside=[one.look for one in (tls, access) if one is not None],
        )
        self._counters = Counters(page or Page.new())
        self._pool = Pool(limits.threads, self._counters)
        arrivals: Any = (_Arrivals(self._counters),)
        self._grpc = grpc.server(
            self._pool,
            interceptors=arrivals,
            maximum_concurrent_rpcs=limits.calls,
            options=[
                ("grpc.max_receive_message_length", limits.request_bytes),
                ("grpc.max_send_message_length", limits.reply_bytes),
                ("grpc.so_reuseport", int(shared)),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.max_connection_age_ms", _AGE),
                ("grpc.max_connection_age_grace_ms", _GRACE),
            ],
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        desk = Desk(
            {
                "GetOnlineFeatures": self._get_online_features,
                "DescribeService": self._describe_service,
                "Push": self._push,
            },
            counters=self._counters,
            limits=limits,
            access=access,
            slow=slow,
            troubled=self._watch.hurry,
            begun=self._pool.begun,
        )
        handlers: Any = (desk,)
        self._grpc.add_generic_rpc_handlers(handlers)
        self._report(self._watch.standing)
        self._stopped = threading.Event()
        self.host = host
        self.port = _bind(self._grpc, host, port, tls)

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def standing(self) -> Standing:
        """The release loaded and what is in the way, if anything."""
        return self._watch.standing

    def metrics(self) -> str:
        """Give what was counted so far, in Prometheus's text format."""
        return render({0: self._counters.page})

    def start(self) -> "Server":
        """Look at Redis once, then listen; SERVING at once if all is there, else when it comes."""
        self._watch.start()
        self._grpc.start()
        standing = self._watch.standing
        state = "SERVING" if standing.ready else "NOT_SERVING"
        _LOG.info(
            "listening on %s, project %s: %s", self.address, self._project, state,
            extra=told("start", address=self.address, project=self._project, state=state),
        )  # fmt: skip
        return self

    def stop(self, grace: float = 5.0) -> None:
        """Report NOT_SERVING, let running calls end within `grace` seconds, then close."""
        _LOG.info("stopping: running calls have %g s to end", grace, extra=told("stop"))
        self._health.enter_graceful_shutdown()
        self._grpc.stop(grace).wait()
        self._watch.stop()
        self._counters.standing(ready=False, release=0)
        self._pool.shutdown()
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; false if the timeout in seconds came first."""
        return self._stopped.wait(timeout)

    def _report(self, standing: Standing) -> None:
        for name in ("", SERVICE):
            self._health.set(name, _UP if standing.ready else _DOWN)
        number = 0 if standing.state is None else standing.state.release.number
        self._counters.standing(ready=standing.ready, release=number, evicted=standing.evicted)

    def _get_online_features(self, raw: bytes, call: Call) -> bytes:
        return respond(
            self._state(),
            raw,
            most=self._limits.rows,
            clock=self._clock,
            read=call.reading(self._read),
            locks=self._locks,
            trace=call,
        )

    def _describe_service(self, raw: bytes, call: Call) -> bytes:
        state = self._state()
        if call.caller is not None:
            call.caller.check_describe()
        try:
            request = pb.DescribeServiceRequest.FromString(raw)
        except DecodeError as error:
            raise InvalidRequest(
                "DescribeServiceRequest: the bytes are not this message"
            ) from error
        wanted: str | Pinned = request.feature_service
        if request.HasField("lock"):
            reference = LockReference(id=request.lock.id, document=request.lock.document)
            wanted = self._locks.find(reference)
        call.wanted(wanted)
        call.permitted(state.plan(wanted, request.full_feature_names))
        found = describe(state, wanted, full=request.full_feature_names)
        return found.SerializeToString()

    def _push(self, raw: bytes, call: Call) -> bytes:
        release, request, moment = self._state().release, read_push(raw), self._clock()
        if call.caller is not None:
            call.caller.check_push(request.source)
        lives = (*release.views, *release.warm)
        push = judge(
            request.source,
            request.rows,
            check_source(request.source, [one.view for one in lives]),
            now=moment,
            max_skew=self._limits.skew,
            most=self._limits.pushed_rows,
        )
        store = self._store.within(call.left)
        sink = None if self._sink is None else self._sink(store)
        result = deliver(push, lives, lambda: store, sink, to=request.to, now=moment)
        return response_of(result).SerializeToString()

    def _state(self) -> State:
        """Give the release that answers this call, from its first byte to its last.

        A release once loaded answers as long as Redis has its rows, which each read finds out.
        """
        standing = self._watch.standing
        if standing.state is None:
            raise standing.trouble or Unavailable("the server has not started; try again")
        return standing.state


def serve(store: OnlineStore, *, project: str, **options: Any) -> Server:
    """Start a server of a project on the rows in a store; `options` are those of `Server`.

    `sink` makes of the store, as a call may use it, where rows go that are pushed for offline too;
    without one they are refused.

    Raises:
        Unavailable: the port cannot be bound. Redis need not be there yet.
        InvalidRequest: others could read along there, and that was not said to be safe.
    """
    return Server(store, project=project, **options).start()


class _Arrivals:
    """Counts every call that comes, also those that gRPC turns away for their number.

    It runs in the thread that all calls come by, and so does what takes them: at the next call what
    was not taken by then is known.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._known = counters.page.rejected()
        self._sampler = Sampler()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        rejected = self._counters.page.rejected()
        if rejected > self._known and self._sampler.take(time.monotonic()) is not None:
            more, self._known = rejected - self._known, rejected
            _LOG.warning(
                "%d calls turned away: too many in hand", more,
                extra=told("rejected", code="RESOURCE_EXHAUSTED", calls=more),
            )  # fmt: skip
        handler = continuation(details)
        if handler is not None:
            self._counters.arrived()
        return handler


def _read(given: T | Reread[T] | None) -> Reread[T] | None:
    return given if given is None or isinstance(given, Reread) else Reread.fixed(given)


def _bind(server: grpc.Server, host: str, port: int, tls: Reread[Tls] | None) -> int:
    address = f"{host}:{port}"
    try:
        if tls is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, _credentials(tls)))
    except RuntimeError as error:
        raise cannot_listen(host, port) from error


def _credentials(tls: Reread[Tls]) -> Any:
    """Give credentials that every new connection has of the certificates as they are then."""
    used = tls.now

    def configuration(files: Tls) -> Any:
        pairs = [(files.key, files.cert)]
        return grpc.ssl_server_certificate_configuration(pairs, files.client_ca)

    def changed() -> Any:
        nonlocal used
        if tls.now is used:
            return None
        used = tls.now
        return configuration(used)

    return grpc.dynamic_ssl_server_credentials(
        configuration(used), changed, require_client_authentication=used.client_ca is not None
    )
