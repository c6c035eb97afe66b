"""The clients that serving services and notebooks use: one that blocks, one for asyncio."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from featurestore.errors import InvalidRequest
from featurestore.model.lock import Lock
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.asking import Asker, Call, Columns, run, run_async
from featurestore.serving.client.channel import (
    TLS,
    AsyncChannel,
    Channel,
    Token,
    Transport,
    endpoint_of,
)
from featurestore.serving.client.response import OnlineResponse
from featurestore.serving.message.limits import Limits
from featurestore.serving.message.pushed import PushResult

_TIMEOUT = 0.25
_REPLY_BYTES = Limits().reply_bytes


class FeatureClient:
    """Looks features up at servers, and pushes rows to them.

    It is safe to share between threads; close it when done. After a fork, make another.
    The address is a server's `host:port`, a DNS name of several (calls go round), or several
    `ip:port` in a list or with commas between; a `transport` stands for servers in tests.
    With a lock, or the path of its JSON, it answers the lock's outputs and nothing else, whatever
    the server's alias names. `timeout` bounds every call, in seconds, retries included.
    With `tls` servers prove themselves; `token`, a text or what gives one for each call, goes as a
    bearer token, over TLS or on this machine only.

    Raises:
        NotFound, InvalidRequest: the path names no lock, the address no servers, or a token would
            travel in the clear.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        *,
        lock: Lock | str | Path | None = None,
        timeout: float = _TIMEOUT,
        reply_bytes: int = _REPLY_BYTES,
        tls: TLS | None = None,
        token: Token | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._asker = Asker(lock=lock, timeout=timeout)
        self._send: Transport = (
            Channel(endpoint_of(address, tls=tls, token=token, reply_bytes=reply_bytes))
            if transport is None
            else _alone(transport, address, tls, token)
        )

    @property
    def address(self) -> str:
        """Where it asks."""
        return self._send.address

    def __repr__(self) -> str:
        return f"FeatureClient({self.address!r})"

    def get_online_features(
        self,
        features: str | Sequence[str] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Columns | None = None,
        request_data: Columns | None = None,
        full_feature_names: bool = False,
        as_of: datetime | None = None,
        max_age: timedelta | None = None,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Give the values of a service (by name), of `view:feature` references, or of the lock.

        Entities come as rows or as columns, with request data among them or apart; naive datetimes
        are UTC. Without either the answer has one row. `as_of` is the moment at which age is
        judged (default: the server's clock), `max_age` the age beyond which no row counts, besides
        its view's ttl.

        Raises:
            InvalidRequest, NotFound: the request does not fit what is defined, or it or its answer
                is too large for a message.
            NotMaterialized, OnlineDataMissing, Unsupported: the server cannot answer it now; it
                never answers a lock with other versions.
            Unavailable, DeadlineExceeded: the server or its Redis does not answer in time.
        """
        steps = self._asker.look_up(
            features,
            entity_rows,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            as_of=as_of,
            max_age=max_age,
            timeout=timeout,
        )
        return run(steps, self._send)

    def push(
        self,
        push_source_name: str,
        rows: Columns,
        *,
        to: Any = "online_and_offline",
        timeout: float | None = None,
    ) -> PushResult:
        """Push rows to a source: columns by name, under the names that expressions use.

        Naive datetimes are UTC. `to` is `online_and_offline`, `online` or `offline`, or Feast's
        `PushMode`. Bad rows are refused one by one, the others taken; see `FeatureStore.push`.

        Raises:
            NotFound: the server's release reads no PushSource of this name.
            InvalidRequest: the rows cannot be made into columns, or are too many for a message.
            Unavailable, DeadlineExceeded: the server or its Redis does not answer in time. Some
                rows may have been taken; pushing them again does no harm.
        """
        return run(self._asker.push(push_source_name, rows, to=to, timeout=timeout), self._send)

    def describe(
        self,
        service: str | Lock | None = None,
        *,
        full_feature_names: bool = False,
        timeout: float | None = None,
    ) -> pb.DescribeServiceResponse:
        """Say what a service (by name) or a lock asks for and answers; by default the client's own.

        Raises:
            NotFound: the server's release has no such service.
            InvalidRequest: neither is named, or the lock cannot be answered there.
            NotMaterialized, Unsupported: the server cannot answer it now.
            Unavailable, DeadlineExceeded: the server does not answer in time.
        """
        steps = self._asker.describe(
            service, full_feature_names=full_feature_names, timeout=timeout
        )
        return run(steps, self._send)

    def close(self) -> None:
        """Close the connections."""
        self._send.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncFeatureClient:
    """`FeatureClient` for asyncio: the same requests and answers, awaited.

    It belongs to the event loop of its first call, and may be shared between the loop's tasks. A
    `token` that is called must not block.

    Raises:
        NotFound, InvalidRequest: as `FeatureClient`.
    """

    def __init__(
        self,
        address: str | Sequence[str] | None = None,
        *,
        lock: Lock | str | Path | None = None,
        timeout: float = _TIMEOUT,
        reply_bytes: int = _REPLY_BYTES,
        tls: TLS | None = None,
        token: Token | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._asker = Asker(lock=lock, timeout=timeout)
        self._send: AsyncChannel | _Awaited = (
            AsyncChannel(endpoint_of(address, tls=tls, token=token, reply_bytes=reply_bytes))
            if transport is None
            else _Awaited(_alone(transport, address, tls, token))
        )

    @property
    def address(self) -> str:
        """Where it asks."""
        return self._send.address

    def __repr__(self) -> str:
        return f"AsyncFeatureClient({self.address!r})"

    async def get_online_features(
        self,
        features: str | Sequence[str] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Columns | None = None,
        request_data: Columns | None = None,
        full_feature_names: bool = False,
        as_of: datetime | None = None,
        max_age: timedelta | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the call's own, which the server is told
    ) -> OnlineResponse:
        """Give the values of a service, references or the lock, as the blocking client does.

        Raises:
            FeatureStoreError: as `FeatureClient.get_online_features`.
        """
        steps = self._asker.look_up(
            features,
            entity_rows,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            as_of=as_of,
            max_age=max_age,
            timeout=timeout,
        )
        return await run_async(steps, self._send)

    async def push(
        self,
        push_source_name: str,
        rows: Columns,
        *,
        to: Any = "online_and_offline",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> PushResult:
        """Push rows to a source, as the blocking client does.

        Raises:
            FeatureStoreError: as `FeatureClient.push`.
        """
        steps = self._asker.push(push_source_name, rows, to=to, timeout=timeout)
        return await run_async(steps, self._send)

    async def describe(
        self,
        service: str | Lock | None = None,
        *,
        full_feature_names: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> pb.DescribeServiceResponse:
        """Say what a service or a lock asks for and answers, as the blocking client does.

        Raises:
            FeatureStoreError: as `FeatureClient.describe`.
        """
        steps = self._asker.describe(
            service, full_feature_names=full_feature_names, timeout=timeout
        )
        return await run_async(steps, self._send)

    async def close(self) -> None:
        """Close the connections."""
        await self._send.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _Awaited:
    """A transport that answers at once, for who awaits."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def address(self) -> str:
        return self._transport.address

    async def __call__(self, call: Call) -> bytes:
        return self._transport(call)

    async def close(self) -> None:
        self._transport.close()


def _alone(
    transport: Transport, address: object, tls: TLS | None, token: Token | None
) -> Transport:
    """Give a transport that no address, TLS or token stands beside."""
    if (address, tls, token) != (None, None, None):
        raise InvalidRequest("transport: stands for the servers; leave address, tls and token out")
    return transport
