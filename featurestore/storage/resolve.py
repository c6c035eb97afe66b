"""Names of machines, and their addresses: nobody waits longer for an answer than he has time."""

import os
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

from featurestore.storage.address import Host

Addresses = list[Any]
"""What `socket.getaddrinfo` gives: family, kind, protocol, name and address, each."""

_asked: dict[tuple[int, Host], Future[Addresses]] = {}
"""Names that are being asked for, by process: a forked one has no thread that asks."""


def addresses(host: Host, until: float) -> Addresses:
    """Give a host's addresses, by the moment of `time.monotonic` at the latest.

    The system's resolver knows no deadline, so a thread asks it: one for each name, for whoever
    wants to know it meanwhile. What is an address already is not asked for.

    Raises:
        OSError: the name has none, or none came in time (`TimeoutError`).
    """
    try:
        return _found(host, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    except UnicodeError:
        raise ConnectionError("the host's name cannot be one") from None
    mine = Future[Addresses]()
    place = os.getpid(), host
    answer = _asked.setdefault(place, mine)
    if answer is mine:
        threading.Thread(target=_ask, args=(place, mine), daemon=True).start()
    return answer.result(max(until - time.monotonic(), 0))


def _ask(place: tuple[int, Host], answer: Future[Addresses]) -> None:
    try:
        found = _found(place[1])
    except OSError as error:
        del _asked[place]
        answer.set_exception(error)
    else:
        del _asked[place]
        answer.set_result(found)


def _found(host: Host, flags: int = 0) -> Addresses:
    return socket.getaddrinfo(*host, type=socket.SOCK_STREAM, flags=flags)
