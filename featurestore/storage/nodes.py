"""The servers of one Redis, and the connections to them that nobody uses now.

Each call is tried once; one that fails closes the connections it was made on.
"""

import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from featurestore.storage.connection import Command, Connection, Refused, asked

_DEMOTED = ("READONLY", "MASTERDOWN")

Keyed = tuple[bytes, Command]
"""A key by which a command is sent where it belongs, and the command."""


class Pool:
    """Connections to one place that nobody uses now; the last one used is used next."""

    def __init__(self, opening: Callable[[float | None], Connection]) -> None:
        self._opening = opening
        self._idle: deque[Connection] = deque()
        self._process = os.getpid()

    def take(self, until: float | None) -> Connection:
        """Give a connection that nobody else uses."""
        if self._process != os.getpid():
            # A forked process shares its parent's sockets: replies would go to either.
            self._idle, self._process = deque(), os.getpid()
        while True:
            try:
                found = self._idle.pop()
            except IndexError:
                return self._opening(until)
            if found.quiet():
                return found
            found.close()

    def keep(self, connection: Connection) -> None:
        """Take a connection back on which all went well."""
        self._idle.append(connection)

    def __len__(self) -> int:
        """Count them."""
        return len(self._idle)

    def empty(self) -> None:
        """Close what nobody uses now."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return


class Nodes(ABC):
    """The servers of one Redis.

    Raises:
        OSError: from each method: one that is needed cannot be reached, or not in time.
        Refused: from each method: one refuses who calls.
    """

    spread = False
    """Whether keys lie on several servers, each slot's on one."""

    @abstractmethod
    def ask(self, commands: Sequence[Keyed], until: float | None) -> list[Any]:
        """Give the replies to commands, each sent where its key is; a `Refused` stands for its own.

        What goes to one server goes there at once, and to all of them before replies are read.
        """

    @abstractmethod
    def primaries(self, until: float | None) -> list[bytes]:
        """Give a key of each primary's: by it, commands are sent there."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; new ones are opened when they are needed."""


class One(Nodes):
    """The server that `opening` gives connections to, whichever it is by then."""

    def __init__(self, opening: Callable[[float | None], Connection]) -> None:
        self._pool = Pool(opening)

    @property
    def idle(self) -> int:
        """How many connections are open that nobody uses now."""
        return len(self._pool)

    def ask(self, commands: Sequence[Keyed], until: float | None) -> list[Any]:
        """Give the replies to commands; their keys are all here."""
        connection = self._pool.take(until)
        try:
            replies = asked(connection, [command for _, command in commands], until)
        except BaseException:
            connection.close()
            raise
        if any(isinstance(one, Refused) and one.code in _DEMOTED for one in replies):
            # It was the primary when it was connected to.
            connection.close()
            self._pool.empty()
        else:
            self._pool.keep(connection)
        return replies

    def primaries(self, until: float | None) -> list[bytes]:  # noqa: ARG002
        """Give a key; any will do."""
        return [b""]

    def close(self) -> None:
        """Close all connections."""
        self._pool.empty()


def left(until: float | None, wait: float) -> float:
    """Give how long may be waited."""
    return wait if until is None else max(0.0, min(wait, until - time.monotonic()))
