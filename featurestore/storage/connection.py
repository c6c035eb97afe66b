"""One connection to one server: bytes out, replies in, and no wait that is longer than asked.

A connection on which anything went wrong is closed and never used again: a reply that comes late
would be read for another call's.
"""

import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from struct import Struct
from typing import Any

import hiredis

from featurestore.storage.address import Host, Login
from featurestore.storage.resolve import addresses

Command = tuple[Any, ...]
"""A command's name and arguments: bytes, texts and numbers."""

_NOTHING = object()
_BUFFER = 65_536
_TIMEVAL = Struct("@ll")
"""What the kernel takes for a timeout: seconds, microseconds; all zeros would be for ever."""
_FRESH = 0.05
"""Seconds for which a connection is not looked at again before it is used."""


class Refused(Exception):
    """What a server replied instead of doing a call: it may quote arguments, its code does not."""

    @property
    def code(self) -> str:
        """The reply's first word if it is a code, as they all should be."""
        code = str(self).partition(" ")[0]
        return code if code.isalnum() and code.isupper() else "ERR"


class Connection:
    """A socket and what was read of it; `wait` is the longest that it waits at a time, seconds.

    `until` is the moment of `time.monotonic` by which a call must have ended, None for any.

    Raises:
        OSError: from each method: it cannot be reached, does not answer in time (`TimeoutError`),
            or answers what is no reply.
    """

    __slots__ = ("_buffer", "_kernel", "_poll", "_reader", "_set", "_socket", "_used", "_wait")

    def __init__(self, opened: socket.socket, wait: float) -> None:
        self._socket = opened
        self._wait = wait
        # A socket with a timeout of Python's asks `poll` before each call, and with each gives
        # other threads their turn; the kernel's timeout costs neither. TLS has Python's alone.
        self._kernel = sys.platform != "win32" and type(opened) is socket.socket
        if self._kernel:
            opened.settimeout(None)
        self._set = dict[int, float]()
        self._used = time.monotonic()
        self._buffer = bytearray(_BUFFER)
        self._reader = hiredis.Reader(
            protocolError=ConnectionError, replyError=Refused, notEnoughData=_NOTHING
        )
        self._poll = select.poll()
        self._poll.register(opened, select.POLLIN)

    def __del__(self) -> None:
        """Close it quietly: whoever dropped a store may have forgotten it."""
        self.close()

    def send(self, packed: bytes, until: float | None) -> None:
        """Send packed commands."""
        sent = 0
        try:
            while sent < len(packed):
                self._bound(until, socket.SO_SNDTIMEO)
                sent += self._socket.send(memoryview(packed)[sent:] if sent else packed)
        except BlockingIOError as error:
            raise TimeoutError("nothing was taken in time") from error

    def receive(self, count: int, until: float | None) -> list[Any]:
        """Give so many replies; a `Refused` among them stands for its call."""
        reader, found = self._reader, list[Any]()
        while True:
            while len(found) < count and (reply := reader.gets()) is not _NOTHING:
                found.append(reply)
            if len(found) == count:
                return found
            self._bound(until, socket.SO_RCVTIMEO)
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError as error:
                raise TimeoutError("no reply in time") from error
            if not size:
                raise ConnectionResetError("the server closed the connection")
            reader.feed(self._buffer, 0, size)

    def quiet(self) -> bool:
        """Say whether it is as it was left: the server neither closed it nor sent more.

        One that was in use a moment ago is taken to be.
        """
        if self._reader.has_data():
            return False
        return time.monotonic() < self._used + _FRESH or not self._poll.poll(0)

    def close(self) -> None:
        """Close it."""
        with suppress(OSError):
            self._socket.close()

    def _bound(self, until: float | None, option: int) -> None:
        """Let the next call of the socket, one that sends or one that receives, end in time."""
        now, left = time.monotonic(), self._wait
        self._used = now
        if until is not None:
            left = min(left, until - now)
            if left <= 0:
                raise TimeoutError("the call's time is over")
        if not self._kernel:
            self._socket.settimeout(left)
        elif left != self._set.get(option):
            self._set[option] = left
            within = _TIMEVAL.pack(int(left), int(left % 1 * 1e6) or 1)
            self._socket.setsockopt(socket.SOL_SOCKET, option, within)


def packed(commands: Sequence[Command]) -> bytes:
    """Pack commands as they are sent."""
    if len(commands) == 1:
        return bytes(hiredis.pack_command(commands[0]))
    return b"".join(map(hiredis.pack_command, commands))


def asked(connection: Connection, commands: Sequence[Command], until: float | None) -> list[Any]:
    """Give the replies to commands, in one round trip."""
    connection.send(packed(commands), until)
    return connection.receive(len(commands), until)


def opened(
    place: Host | str,
    *,
    login: Login,
    hello: Sequence[Command],
    tls: ssl.SSLContext | None,
    wait: float,
    until: float | None,
) -> tuple[Connection, list[Any]]:
    """Open a connection to a host and port, or a socket's path; give it and the replies to `hello`.

    All of it together takes at most one wait.

    Raises:
        OSError: it cannot be reached in time.
        Refused: it does not know this user, or refuses a command of `hello`.
    """
    latest = time.monotonic() + wait
    until = latest if until is None else min(until, latest)
    connection = Connection(_socket(place, tls, until), wait)
    words = [(login.user, login.password) if login.user else (login.password,)]
    commands = [*(("AUTH", *one) for one in words if login.password), *hello]
    try:
        replies = asked(connection, commands, until) if commands else []
        _agreed(replies)
    except BaseException:
        connection.close()
        raise
    return connection, replies[len(commands) - len(hello) :]


def _agreed(replies: Sequence[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Refused):
            raise reply


def _socket(place: Host | str, tls: ssl.SSLContext | None, until: float) -> socket.socket:
    if isinstance(place, str):
        return _tried(socket.AF_UNIX, place, until)
    trouble: OSError = ConnectionError("the name has no address")
    for family, _, _, _, there in addresses(place, until):
        try:
            made = _tried(family, there, until)
        except OSError as error:
            trouble = error
            continue
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made if tls is None else _encrypted(made, place[0], tls, until)
    raise trouble


def _tried(family: int, there: Any, until: float) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(max(until - time.monotonic(), 1e-3))
        made.connect(there)
    except BaseException:
        made.close()
        raise
    return made


def _encrypted(made: socket.socket, name: str, tls: ssl.SSLContext, until: float) -> socket.socket:
    try:
        made.settimeout(max(until - time.monotonic(), 1e-3))
        return tls.wrap_socket(made, server_hostname=name)
    except BaseException:
        made.close()
        raise
