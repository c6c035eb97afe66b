"""Sentinels, and the primary that they know."""

import time
from collections.abc import Callable

from featurestore.storage.address import Address, Host
from featurestore.storage.connection import Connection, Refused, asked
from featurestore.storage.nodes import left


class Sentinels:
    """Sentinels, of which one after the other is asked for a service's primary."""

    def __init__(
        self, address: Address, connect: Callable[[Host, float], Connection], wait: float
    ) -> None:
        self._service = address.service
        self._hosts = list(address.hosts)
        self._connect = connect
        self._wait = wait

    def primary(self, until: float | None) -> Host:
        """Give the primary's host and port; the sentinel that answered is asked first next time."""
        ends = time.monotonic() + left(until, self._wait)
        hosts = list(self._hosts)
        trouble: Exception = ConnectionError("no sentinel knows the service")
        for place, host in enumerate(hosts):
            now = time.monotonic()
            # One that hangs leaves time for the others, and for the primary.
            share = now + (ends - now) / (len(hosts) - place + 1)
            try:
                connection = self._connect(host, share)
            except (OSError, Refused) as error:
                trouble = error
                continue
            try:
                (reply,) = asked(
                    connection, [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)], share
                )
            except OSError as error:
                trouble = error
                continue
            finally:
                connection.close()
            if isinstance(reply, list):
                self._hosts = [host, *(one for one in hosts if one != host)]
                name, port = reply
                return name.decode(), int(port)
            trouble = reply if isinstance(reply, Refused) else trouble
        raise trouble
