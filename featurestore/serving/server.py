"""The gRPC server: one project, one alias, one release at a time."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from featurestore.errors import (
    DeadlineExceeded,
    FeatureStoreError,
    InvalidRequest,
    OnlineDataMissing,
    Unavailable,
)
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.faults import KEY, code_of
from featurestore.serving.limits import SERVICE, Limits
from featurestore.serving.locks import LockReference, Locks, Pinned
from featurestore.serving.push import Sink, check_source, deliver, judge
from featurestore.serving.pushed import response_of
from featurestore.serving.requests import read_push
from featurestore.serving.respond import respond
from featurestore.serving.state import State, describe
from featurestore.serving.watch import Standing, Watch
from featurestore.storage.redis import OnlineStore

_LOG = logging.getLogger("featurestore.serving")
_UP, _DOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)

_MESSAGE = 600
"""Most characters of an error that travel: escaped, at twelve bytes each, they fit 8 KiB."""

Clock = Callable[[], int]


def now() -> int:
    """Give the system's clock, UTC microseconds since 1970."""
    return time.time_ns() // 1000


class Server:
    """A server bound to `host:port` (0: a free port); `start` it, `stop` it once."""

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
        sink: Sink | None = None,
    ) -> None:
        self._store = store
        self._sink = sink
        self._project = project
        self._clock = clock
        self._limits = limits
        self._locks = Locks(project)
        self._watch = Watch(
            store, project=project, alias=alias, interval=limits.poll, changed=self._report
        )
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="featurestore-call")
        self._grpc = grpc.server(
            self._pool,
            maximum_concurrent_rpcs=limits.calls,
            options=[
                ("grpc.max_receive_message_length", limits.request_bytes),
                ("grpc.max_send_message_length", limits.reply_bytes),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ],
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        self._grpc.add_generic_rpc_handlers((self._handlers(),))
        self._report(self._watch.standing)
        self._stopped = threading.Event()
        self.host = host
        self.port = _bind(self._grpc, host, port)

    @property
    def address(self) -> str:
        """Where it listens, `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def standing(self) -> Standing:
        """The release loaded and what is in the way, if anything."""
        return self._watch.standing

    def start(self) -> "Server":
        """Look at Redis once, then listen; SERVING at once if all is there, else when it comes."""
        self._watch.start()
        self._grpc.start()
        standing = self._watch.standing
        state = "SERVING" if standing.ready else "NOT_SERVING"
        _LOG.info("listening on %s, project %s: %s", self.address, self._project, state)
        return self

    def stop(self, grace: float = 5.0) -> None:
        """Report NOT_SERVING, let running calls end within `grace` seconds, then close."""
        _LOG.info("stopping: running calls have %g s to end", grace)
        self._health.enter_graceful_shutdown()
        self._grpc.stop(grace).wait()
        self._watch.stop()
        self._pool.shutdown()
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped; false if the timeout in seconds came first."""
        return self._stopped.wait(timeout)

    def _report(self, standing: Standing) -> None:
        for name in ("", SERVICE):
            self._health.set(name, _UP if standing.ready else _DOWN)

    def _handlers(self) -> Any:
        methods = {
            "GetOnlineFeatures": self._get_online_features,
            "DescribeService": self._describe_service,
            "Push": self._push,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(self._guarded(method))
                for name, method in methods.items()
            },
        )

    def _guarded(
        self, method: Callable[[bytes], bytes]
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        """Answer with a status for every error of ours, and drop calls nobody waits for."""

        def call(raw: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                left = context.time_remaining()
                if left is not None and left <= 0:
                    raise DeadlineExceeded("the call's deadline had passed before its turn came")
                return method(raw)
            except (Unavailable, OnlineDataMissing) as error:
                self._watch.hurry()
                _refuse(context, error)
            except FeatureStoreError as error:
                _refuse(context, error)

        return call

    def _get_online_features(self, raw: bytes) -> bytes:
        return respond(
            self._state(),
            raw,
            most=self._limits.rows,
            clock=self._clock,
            read=self._store.read,
            locks=self._locks,
        )

    def _describe_service(self, raw: bytes) -> bytes:
        state = self._state()
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
        found = describe(state, wanted, full=request.full_feature_names)
        return found.SerializeToString()

    def _push(self, raw: bytes) -> bytes:
        release, request, moment = self._state().release, read_push(raw), self._clock()
        lives = (*release.views, *release.warm)
        push = judge(
            request.source,
            request.rows,
            check_source(request.source, [one.view for one in lives]),
            now=moment,
            max_skew=self._limits.skew,
            most=self._limits.pushed_rows,
        )
        result = deliver(push, lives, lambda: self._store, self._sink, to=request.to, now=moment)
        return response_of(result).SerializeToString()

    def _state(self) -> State:
        """Give the release that answers this call, from its first byte to its last.

        A release once loaded answers as long as Redis has its rows, which each read finds out.
        """
        standing = self._watch.standing
        if standing.state is None:
            raise standing.trouble or Unavailable("the server has not started; try again")
        return standing.state


def serve(
    store: OnlineStore,
    *,
    project: str,
    alias: str = "prod",
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Clock = now,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    sink: Sink | None = None,
) -> Server:
    """Start a server of a project's alias on the rows in a store.

    `sink` is where rows go that are pushed for offline too; without one they are refused.

    Raises:
        Unavailable: the port cannot be bound. Redis need not be there yet.
    """
    server = Server(
        store,
        project=project,
        alias=alias,
        host=host,
        port=port,
        clock=clock,
        limits=limits,
        sink=sink,
    )
    return server.start()


def _bind(server: grpc.Server, host: str, port: int) -> int:
    try:
        return int(server.add_insecure_port(f"{host}:{port}"))
    except RuntimeError as error:
        raise Unavailable(
            f"{host}:{port}: cannot listen there; choose a free port (0 finds one)"
        ) from error


def _refuse(context: grpc.ServicerContext, error: FeatureStoreError) -> NoReturn:
    context.set_trailing_metadata(((KEY, type(error).__name__),))
    # Metadata has its own size limit, and a message can quote a name of megabytes.
    context.abort(code_of(error), str(error)[:_MESSAGE])
    raise AssertionError  # abort does not return
