"""Channels to servers: where they are, who proves what to whom, and what is tried again."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from json import dumps
from pathlib import Path
from typing import Any, Protocol

import grpc

from featurestore.errors import InvalidRequest
from featurestore.serving.client.asking import Call
from featurestore.serving.message.faults import error_of
from featurestore.serving.message.limits import SERVICE

Pem = bytes | str | Path
"""A PEM document, or the path of one."""

Token = str | Callable[[], str]
"""A bearer token, or what gives one for each call."""

# Retries do not outlast a restart alone: a channel must also try to connect again soon. The budget
# stops retries while most calls fail, so that clients do not keep a struggling server down. What
# reaches a server in the moment it stops is CANCELLED; every method may be called twice.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}
_PORT = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]/]+):(?P<port>[0-9]{1,5})")
_MOST = 2**31
"""What gRPC's settings hold less than."""
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
"""How gRPC's own names of servers begin."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Transport(Protocol):
    """What carries a client's calls, and where to."""

    @property
    def address(self) -> str:
        """Where calls go, for people."""

    def __call__(self, call: Call) -> bytes:
        """Give the bytes of the reply, or raise the error of the store that came instead."""

    def close(self) -> None:
        """Let go of what was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """What proves a server to a client, and the client to it: PEM documents, or their paths.

    `roots` are whom servers' certificates must come from (default: gRPC's list of public ones).
    `certificate` and `key` are the client's own, where servers ask for one. `server_name` is the
    name in the servers' certificates, if it is not the host of the address.
    """

    roots: Pem | None = field(default=None, repr=False)
    certificate: Pem | None = field(default=None, repr=False)
    key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse half of a client's proof."""
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequest("tls: a client's certificate and its key go together; give both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Servers to call: their addresses, gRPC's words for these, and what calls must carry."""

    address: str
    target: str
    tls: TLS | None
    token: Token | None = field(repr=False)
    reply_bytes: int

    @property
    def options(self) -> list[tuple[str, Any]]:
        """The channel's settings."""
        found: list[tuple[str, Any]] = [
            ("grpc.service_config", dumps(_SERVICE_CONFIG)),
            ("grpc.enable_retries", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 250),
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 2_000),
            ("grpc.max_receive_message_length", self.reply_bytes),
        ]
        if self.tls is not None and self.tls.server_name is not None:
            found.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return found

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Give the channel's proof; None without TLS.

        Raises:
            InvalidRequest: a file cannot be read.
        """
        if self.tls is None:
            return None
        roots, key, chain = (
            _pem(one, f"tls.{name}")
            for name, one in (
                ("roots", self.tls.roots),
                ("key", self.tls.key),
                ("certificate", self.tls.certificate),
            )
        )
        return grpc.ssl_channel_credentials(roots, key, chain)

    def metadata(self) -> tuple[tuple[str, str], ...] | None:
        """Give what goes with a call: its bearer token, if there is one.

        Raises:
            InvalidRequest: the token is none that can be sent; it is not shown.
        """
        if self.token is None:
            return None
        given: object = self.token() if callable(self.token) else self.token
        if not isinstance(given, str) or not _VISIBLE.fullmatch(given):
            raise InvalidRequest(
                "token: is not text of visible ASCII characters without spaces; pass the bare "
                "token, without 'Bearer'"
            )
        return (("authorization", f"Bearer {given}"),)


def endpoint_of(
    given: str | Sequence[str] | None, *, tls: TLS | None, token: Token | None, reply_bytes: int
) -> Endpoint:
    """Read where servers are: `host:port`, or several, in a list or with commas between.

    Raises:
        InvalidRequest: there is none, or several that gRPC cannot go round; TLS that cannot know
            their name, or a token that would travel in the clear.
    """
    if tls is not None and not isinstance(tls, TLS):
        raise InvalidRequest(f"tls: {type(tls).__name__} says nothing; pass TLS(roots=…)")
    if not isinstance(reply_bytes, int) or not 0 < reply_bytes < _MOST:
        raise InvalidRequest(
            f"reply_bytes: {reply_bytes!r:.40} is no size; pass bytes, above 0 and below {_MOST:,}"
        )
    listed = given.split(",") if isinstance(given, str) else _listed(given)
    if not listed or not all(isinstance(one, str) and one.strip() for one in listed):
        raise InvalidRequest("address: is empty; give the server's HOST:PORT")
    addresses = [one.strip() for one in listed]
    for one in addresses:
        _check_port(one)
    if len(addresses) > 1 and tls is not None and tls.server_name is None:
        raise InvalidRequest(
            "tls.server_name: is not given, and of several servers none gives it; pass the name "
            "that their certificates carry"
        )
    if token is not None and tls is None and not all(_is_here(one) for one in addresses):
        raise InvalidRequest(
            "token: would travel in the clear to another machine; pass tls=TLS(…) with it"
        )
    return Endpoint(
        address=",".join(addresses),
        target=addresses[0] if len(addresses) == 1 else _round(addresses),
        tls=tls,
        token=token,
        reply_bytes=reply_bytes,
    )


def _check_port(address: str) -> None:
    """Refuse a bare host, of which gRPC would ask port 443, and a number that is no port."""
    if address.startswith(_SCHEMES):
        return
    part = _PORT.fullmatch(address)
    if part is None or not 0 < int(part["port"]) <= 65_535:
        raise InvalidRequest(
            f"address: {address!r:.100} is no HOST:PORT with a port of 1 to 65,535; write it so, "
            "IPv6 as [HOST]:PORT"
        )


def _listed(given: object) -> list[Any]:
    """Give the members of what should be several addresses; what has none is one itself."""
    return list(given) if isinstance(given, Iterable) else [given]


def _round(addresses: Sequence[str]) -> str:
    """Give gRPC's target of several servers, which it takes as IP addresses of one family only."""
    parts = [_PORT.fullmatch(one) for one in addresses]
    versions = set()
    for address, part in zip(addresses, parts, strict=True):
        host = "127.0.0.1" if part and part["host"] == "localhost" else part and part["host"]
        try:
            versions.add(ip_address((host or "").strip("[]")).version)
        except ValueError as error:
            raise InvalidRequest(
                f"address: {address!r} is one of several, but no IP:PORT; list IP addresses, or "
                "give one DNS name that stands for all servers"
            ) from error
    if len(versions) > 1:
        raise InvalidRequest(
            "address: IPv4 and IPv6 are mixed; list servers of one family, or give one DNS name"
        )
    whole = ",".join(one.replace("localhost:", "127.0.0.1:") for one in addresses)
    return f"ipv{versions.pop()}:{whole}"


def _is_here(address: str) -> bool:
    """Say whether calls to an address stay on this machine."""
    part = _PORT.fullmatch(address)
    if part is None:
        return address.startswith(("unix:", "unix-abstract:"))
    if part["host"] == "localhost":
        return True
    try:
        return ip_address(part["host"].strip("[]")).is_loopback
    except ValueError:
        return False


def _pem(given: Pem | None, path: str) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequest(
            f"{path}: cannot be read ({type(error).__name__}); pass a PEM file's path, or its bytes"
        ) from error


class Channel:
    """Calls over gRPC that block; safe to share between threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        proof, options = endpoint.credentials(), endpoint.options
        self._endpoint = endpoint
        self._channel = (
            grpc.insecure_channel(endpoint.target, options)
            if proof is None
            else grpc.secure_channel(endpoint.target, proof, options)
        )
        self._methods = _methods(self._channel)
        self.address = endpoint.address

    def __call__(self, call: Call) -> bytes:
        """Give the bytes of the reply."""
        try:
            reply: bytes = self._methods[call.method](
                call.raw, timeout=call.seconds, metadata=self._endpoint.metadata()
            )
        except grpc.RpcError as failure:
            raise error_of(failure, self.address) from None
        except ValueError:
            if self._methods is _CLOSED:  # between the look at it and the call
                raise InvalidRequest(_OVER) from None
            raise
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._methods = _CLOSED
        self._channel.close()


class AsyncChannel:
    """Calls over gRPC that are awaited, on the event loop of the first one."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._proof, self._endpoint = endpoint.credentials(), endpoint
        self._channel: Any = None
        self._methods: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.address = endpoint.address

    async def __call__(self, call: Call) -> bytes:
        """Give the bytes of the reply."""
        if self._methods is None:
            self._open()
        if self._methods is not _CLOSED and self._loop is not asyncio.get_running_loop():
            raise InvalidRequest("client: belongs to another event loop; make one for each loop")
        try:
            reply: bytes = await self._methods[call.method](
                call.raw, timeout=call.seconds, metadata=self._endpoint.metadata()
            )
        except grpc.RpcError as failure:
            raise error_of(failure, self.address) from None
        except asyncio.CancelledError:
            # gRPC says this of calls that a close cut off, too; then nobody cancelled the task.
            task = asyncio.current_task()
            if self._methods is not _CLOSED or task is None or task.cancelling():
                raise
            raise InvalidRequest(_OVER) from None
        return reply

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        target, options = self._endpoint.target, self._endpoint.options
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if self._proof is None
            else grpc.aio.secure_channel(target, self._proof, options)
        )
        self._methods = _methods(self._channel)

    async def close(self) -> None:
        """Close the connections."""
        self._methods = _CLOSED
        if self._channel is not None:
            await self._channel.close()


def _methods(channel: Any) -> dict[str, Any]:
    names = ("GetOnlineFeatures", "Push", "DescribeService")
    return {name: channel.unary_unary(f"/{SERVICE}/{name}", None, None) for name in names}


_OVER = "client: is closed; make another"


class _Closed(dict[str, Any]):
    """The methods of a closed channel."""

    def __missing__(self, method: str) -> Any:
        raise InvalidRequest(_OVER)


_CLOSED = _Closed()
