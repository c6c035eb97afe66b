"""How Redis is connected to: one attempt, short waits, and addresses that are safe to repeat."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry


def connected(url: str, *, timeout: float) -> tuple[str, redis.Redis]:
    """Give a Redis URL's address without secrets, and a client of it; nothing is sent yet.

    `timeout` is in seconds and bounds each connect, each send and each wait for a reply.

    Raises:
        ValueError: it is no URL of Redis's.
    """
    where, options = redacted(url), parse_url(url)  # type: ignore[no-untyped-call]
    # All that redis-py 7 and 8 default differently is said; a URL's query cannot undo it.
    explicit: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
    }
    pool = redis.ConnectionPool(**{**options, **explicit})
    return where, redis.Redis(connection_pool=pool)


def redacted(url: str) -> str:
    """Give a Redis URL without user, password and options.

    Raises:
        ValueError: it is not a URL, or a sign in its password ends the host too early.
    """
    parts = urlsplit(url)
    if parts.scheme != "unix" and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{place}{parts.path}"
