"""One Redis or Valkey, called in one project's name: commands, scripts, and what goes wrong.

Calls fail fast: one attempt, a short timeout, and after a timeout the connection is dropped, so
that no reply is read for another call's. A server may be shared by threads.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from itertools import compress, islice
from typing import Any, ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.storage.address import Host, address
from featurestore.storage.cluster import Cluster, slot_of
from featurestore.storage.connection import Command, Refused
from featurestore.storage.keys import check_name
from featurestore.storage.nodes import Keyed, Nodes
from featurestore.storage.routes import nodes

SCRIPTS_PER_PIPELINE = 16
_SPREAD_SCRIPTS = 4_000
"""Scripts that are sent at once where each names the keys of one slot only."""

_EVICTED = re.compile(rb"\bevicted_keys:([0-9]+)")
_USER = ("NOAUTH", "NOPERM", "WRONGPASS")
_LATER = ("ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MOVED", "READONLY", "TRYAGAIN")

P = ParamSpec("P")
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Keys, cut into the slices of them that one command may name, and in which order they lie."""

    slices: Sequence[slice]
    order: NDArray[np.intp] | None = None

    def laid(self, items: Sequence[T]) -> Sequence[T]:
        """Put what belongs to the keys in the order of the slices."""
        if self.order is None:
            return items
        return list(map(items.__getitem__, self.order.tolist()))

    def placed(self, items: Sequence[T]) -> Sequence[T]:
        """Put what lies in the order of the slices back in that of the keys."""
        if self.order is None:
            return items
        return list(map(items.__getitem__, np.argsort(self.order).tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One Redis, be it one server, a primary or a cluster; `where` is its address without secrets.

    Every method raises `Unavailable` when Redis cannot be reached, does not answer within the
    timeout, or refuses the call. `until` is the moment of `time.monotonic` by which calls end.
    """

    project: str
    where: str
    nodes: Nodes = field(repr=False)
    until: float | None = field(default=None, repr=False)

    @classmethod
    def connect(cls, url: str, *, project: str, timeout: float = 1.0) -> Self:
        """Give the Redis at a URL (see `storage.address`); nothing is sent yet.

        `timeout` is in seconds and bounds each connect, each send and each wait for a reply.

        Raises:
            InvalidRequest: the URL or the project's name is not one, or its certificates are none.
        """
        check_name(project, "project")
        try:
            named = address(url)
            found = nodes(named, wait=timeout)
        except ValueError as error:
            raise InvalidRequest(f"online_store.connection_string: {error}") from None
        return cls(project=project, where=named.where, nodes=found)

    def within(self, timeout: float | None) -> Self:
        """Give the same Redis for calls that all end so many seconds from now; None: as before.

        The connections are the same ones.
        """
        if timeout is None:
            return self
        until = time.monotonic() + timeout
        return replace(self, until=until if self.until is None else min(until, self.until))

    def close(self) -> None:
        """Close all connections; new ones are opened when it is used again."""
        self.nodes.close()

    def ping(self) -> None:
        """Ask Redis for a sign of life, each primary of a cluster."""
        self.ask([(node, ("PING",)) for node in self.primaries()])

    def evicted(self) -> int:
        """Give how many keys Redis threw away to make room since it started; 0: none, or untold."""
        replies = self._ask([(node, ("INFO", "stats")) for node in self.primaries()], None)
        found = [_EVICTED.search(one) for one in replies if isinstance(one, bytes)]
        return sum(int(one[1]) for one in found if one)

    def primaries(self) -> list[bytes]:
        """Give a key of each primary's, by which commands are sent to it."""
        return self._tried(self.nodes.primaries, self.until)

    def owners(self, cluster: Cluster, until: float | None) -> list[Host | None]:
        """Give each slot's primary in a cluster."""
        return self._tried(cluster.owners, self._sooner(until))

    def key(self, kind: str, name: str) -> bytes:
        """Give the key of what belongs to no entity."""
        return f"fs1/{self.project}/{kind}/{name}".encode()

    def ask(self, commands: Sequence[Keyed], until: float | None = None) -> list[Any]:
        """Give the replies to commands, each with a key by which it is sent; none is refused."""
        replies = self._ask(commands, until)
        self._sound(replies)
        return replies

    def call(self, name: str, key: bytes, *arguments: Any) -> Any:
        """Give the reply to a command on one key."""
        return self.ask([(key, (name, key, *arguments))])[0]

    def gather(
        self, name: str, keys: Sequence[bytes], *, until: float | None = None
    ) -> Sequence[Any]:
        """Give what a command of many keys, like `MGET`, replies for each of them."""
        if not keys:
            return []
        if not self.nodes.spread:
            found: Sequence[Any] = self.ask([(keys[0], (name, *keys))], until)[0]
            return found
        cut = self.cut(keys, len(keys))
        laid = cut.laid(keys)
        parts = (laid[one] for one in cut.slices)
        replies = self.ask([(part[0], (name, *part)) for part in parts], until)
        return cut.placed([value for reply in replies for value in reply])

    def total(self, name: str, keys: Sequence[bytes]) -> int:
        """Give the sum of what a command of many keys, like `UNLINK`, counts; none is 0."""
        if not keys:
            return 0
        cut = self.cut(keys, len(keys))
        laid = cut.laid(keys)
        parts = [laid[one] for one in cut.slices]
        return sum(self.ask([(part[0], (name, *part)) for part in parts]))

    def cut(self, keys: Sequence[bytes], most: int) -> Cut:
        """Cut keys into slices of at most so many, of which each is of one slot on a cluster."""
        if not self.nodes.spread:
            return Cut(slices=[slice(at, at + most) for at in range(0, len(keys), most)])
        slots = np.fromiter(map(slot_of, keys), np.uint16, len(keys))
        order = np.argsort(slots, kind="stable")
        edges = [*(np.flatnonzero(np.diff(slots[order])) + 1).tolist(), len(keys)]
        starts = [0, *edges[:-1]]
        return Cut(
            order=order,
            slices=[
                slice(at, min(at + most, end))
                for start, end in zip(starts, edges, strict=True)
                for at in range(start, end, most)
            ],
        )

    def run(self, script: Script, calls: Iterator[tuple[Sequence[bytes], list[Any]]]) -> int:
        """Give the sum of what a script replies to these calls, of keys and arguments each."""
        return sum(self.replies(script, calls))

    def replies(
        self, script: Script, calls: Iterator[tuple[Sequence[bytes], list[Any]]]
    ) -> Iterator[Any]:
        """Give what each call replies; it is sent when its reply is asked for."""
        most = _SPREAD_SCRIPTS if self.nodes.spread else SCRIPTS_PER_PIPELINE
        while batch := list(islice(calls, most)):
            replies = self._ask(_scripts("EVALSHA", script.sha, batch), None)
            unknown = [isinstance(one, Refused) and one.code == "NOSCRIPT" for one in replies]
            if any(unknown):
                again = iter(
                    self._ask(_scripts("EVAL", script.text, [*compress(batch, unknown)]), None)
                )
                replies = [next(again) if u else r for r, u in zip(replies, unknown, strict=True)]
            self._sound(replies)
            yield from replies

    def _ask(self, commands: Sequence[Keyed], until: float | None) -> list[Any]:
        return self._tried(self.nodes.ask, commands, self._sooner(until))

    def _sooner(self, until: float | None) -> float | None:
        return self.until if until is None or (self.until or until) < until else until

    def _tried(self, call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Turn what a server or the network raises into `Unavailable`, without secrets."""
        try:
            return call(*given, **named)
        except Refused as error:
            raise self._refused(error) from None
        except OSError as error:
            raise Unavailable(
                f"online_store: Redis at {self.where} cannot be reached ({type(error).__name__}); "
                "check that it runs and that online_store.connection_string, or "
                "FEATURESTORE_REDIS_URL, names it"
            ) from error

    def _sound(self, replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, Refused):
                raise self._refused(reply)

    def _refused(self, refused: Refused) -> Unavailable:
        # Replies can quote arguments: only the code, their first word, is repeated.
        code = refused.code
        if code in _LATER:
            return Unavailable(
                f"online_store: Redis at {self.where} cannot do the call now ({code}): it starts, "
                "or its servers change places; try again"
            )
        hint = "limits (maxmemory, user rights, version 7.0 or later)"
        if code in _USER:
            hint = "the user and password in online_store.connection_string, and the user's rights"
        return Unavailable(
            f"online_store: Redis at {self.where} refused the call ({code}); see its log and {hint}"
        )


def _scripts(
    command: str, script: str, batch: Sequence[tuple[Sequence[bytes], list[Any]]]
) -> list[tuple[bytes, Command]]:
    return [(keys[0], (command, script, len(keys), *keys, *arguments)) for keys, arguments in batch]
