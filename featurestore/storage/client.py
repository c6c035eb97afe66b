"""A redis-py client of one server, or of a primary that sentinels know: what streams are read with.

It tries once and waits shortly; all that redis-py 7 and 8 default differently is said.
"""

import ssl
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from featurestore.storage.address import Address, Host, address
from featurestore.storage.connection import Connection, Refused, opened
from featurestore.storage.sentinel import Sentinels


def connected(url: str, *, timeout: float) -> tuple[str, redis.Redis]:
    """Give a Redis URL's address without secrets, and a client of it; nothing is sent yet.

    `timeout` is in seconds and bounds each connect, each send and each wait for a reply.

    Raises:
        ValueError: it is no URL of Redis's, or a cluster's, of which a stream has one server only.
    """
    where = address(url)
    if where.kind == "cluster":
        raise ValueError("a stream is read from one server; write redis://host:port/db")
    tls = None if where.tls is None else where.tls.context()
    options: dict[str, Any] = {
        "db": where.db,
        "username": where.login.user or None,
        "password": where.login.password or None,
        "client_name": where.client_name or None,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
    }
    if where.path is not None:
        options |= {"path": where.path, "connection_class": redis.UnixDomainSocketConnection}
    else:
        host, port = where.hosts[0]
        options |= {"host": host, "port": port, "connection_class": redis.Connection}
    if where.tls is not None:
        options |= {
            "connection_class": redis.SSLConnection,
            "ssl_ca_certs": where.tls.ca_certs,
            "ssl_certfile": where.tls.certfile,
            "ssl_keyfile": where.tls.keyfile,
            "ssl_check_hostname": where.tls.check_hostname,
        }
    if where.kind == "sentinel":
        options["connection_class"] = _of_primary(where, options["connection_class"], tls, timeout)
    return where.where, redis.Redis(connection_pool=redis.ConnectionPool(**options))


def _of_primary(
    where: Address, kind: Any, tls: ssl.SSLContext | None, wait: float
) -> type[redis.Connection]:
    """Give connections that ask the sentinels where the primary is, each time they are opened."""

    def ask(host: Host, until: float) -> Connection:
        login = where.sentinel
        return opened(host, login=login, hello=(), tls=tls, wait=wait, until=until)[0]

    sentinels = Sentinels(where, ask, wait)

    class Primary(kind):  # type: ignore[misc]
        def _connect(self) -> Any:
            try:
                self.host, self.port = sentinels.primary(time.monotonic() + wait)
            except Refused as error:
                raise ConnectionError(error.code) from None
            return super()._connect()

    return Primary
