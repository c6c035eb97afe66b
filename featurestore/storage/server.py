"""One Redis or Valkey, called in one project's name: connections, scripts, and what goes wrong.

Calls fail fast: one attempt, a short timeout, and after a timeout the connection is dropped, so
that no reply is read for another call's. A server may be shared by threads.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import compress, islice
from typing import Any, Self

import redis
from redis.exceptions import NoScriptError

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.storage.connection import connected
from featurestore.storage.keys import check_name

SCRIPTS_PER_PIPELINE = 16


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name by which servers know it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the script as Redis does."""
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


def script(name: str) -> Script:
    """Give the script in a file of this room."""
    return Script(files("featurestore.storage").joinpath("lua", name).read_text("utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One Redis; `where` is its address without secrets.

    Every method raises `Unavailable` when Redis cannot be reached, does not answer within the
    timeout, or refuses the call.
    """

    project: str
    where: str
    client: redis.Redis = field(repr=False)

    @classmethod
    def connect(cls, url: str, *, project: str, timeout: float = 1.0) -> Self:
        """Give the Redis at a URL (`redis://`, `rediss://`, `unix://`); nothing is sent yet.

        `timeout` is in seconds and bounds each connect, each send and each wait for a reply.

        Raises:
            InvalidRequest: the URL or the project's name is not one.
        """
        check_name(project, "project")
        try:
            where, client = connected(url, timeout=timeout)
        except ValueError:
            raise InvalidRequest(
                "online_store.connection_string: not a Redis URL; write redis://host:port/db, and "
                "the signs / ? # @ in a password as %2F %3F %23 %40"
            ) from None
        return cls(project=project, where=where, client=client)

    def close(self) -> None:
        """Close all connections; new ones are opened when it is used again."""
        self.client.connection_pool.disconnect()

    def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with self.answers():
            self.client.ping()

    def key(self, kind: str, name: str) -> bytes:
        """Give the key of what belongs to no entity."""
        return f"fs1/{self.project}/{kind}/{name}".encode()

    def run(self, script: Script, calls: Iterator[tuple[list[bytes], list[Any]]]) -> int:
        """Give the sum of what a script replies to these calls, of keys and arguments each."""
        return sum(self.replies(script, calls))

    def replies(
        self, script: Script, calls: Iterator[tuple[list[bytes], list[Any]]]
    ) -> Iterator[Any]:
        """Give what each call replies; it is sent when its reply is asked for."""
        while batch := list(islice(calls, SCRIPTS_PER_PIPELINE)):
            with self.answers():
                replies = self._pipeline("EVALSHA", script.sha, batch)
                unknown = [isinstance(reply, NoScriptError) for reply in replies]
                if any(unknown):
                    again = iter(self._pipeline("EVAL", script.text, [*compress(batch, unknown)]))
                    replies = [
                        next(again) if u else r for r, u in zip(replies, unknown, strict=True)
                    ]
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
            yield from replies

    def _pipeline(
        self, command: str, script: str, batch: list[tuple[list[bytes], list[Any]]]
    ) -> list[Any]:
        send: Callable[..., Any]
        with self.client.pipeline(transaction=False) as pipeline:
            send = pipeline.evalsha if command == "EVALSHA" else pipeline.eval
            for keys, arguments in batch:
                send(script, len(keys), *keys, *arguments)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    @contextmanager
    def answers(self) -> Iterator[None]:
        """Turn what Redis or the network raises into `Unavailable`, without values or secrets."""
        try:
            yield
        except redis.ResponseError as error:
            # Replies can quote arguments: only the error's code, its first word, is repeated.
            code = "OOM" if isinstance(error, redis.OutOfMemoryError) else str(error).split(" ")[0]
            raise Unavailable(
                f"online_store: Redis at {self.where} refused the call ({code}); see its log and "
                "limits (maxmemory, user rights, version 7.0 or later)"
            ) from None
        except redis.RedisError as error:
            raise Unavailable(
                f"online_store: Redis at {self.where} cannot be reached ({type(error).__name__}); "
                "check that it runs and that online_store.connection_string, or "
                "FEATURESTORE_REDIS_URL, names it"
            ) from error
