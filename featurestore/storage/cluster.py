"""A cluster: which slot a key is in, whose the slots are, and calls that go round its servers.

What a server sends elsewhere (`MOVED`, `ASK`) it has not done: it is sent there, a bounded number
of times.
"""

import threading
import time
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import count
from typing import Any

from featurestore.storage.address import Host
from featurestore.storage.connection import Connection, Refused, asked, packed
from featurestore.storage.nodes import Keyed, Nodes, Pool, left

SLOTS = 16_384
_ROUNDS = 4
"""How often a call goes round a cluster that sends it elsewhere."""

_ELSEWHERE = ("MOVED", "ASK")
_TABLE = ("CLUSTER", "SLOTS")


def slot_of(key: bytes) -> int:
    """Give the slot of a key: that of its hash tag, if it has one."""
    start = key.find(b"{") + 1
    end = key.find(b"}", start) if start else -1
    return crc_hqx(key[start:end] if end > start else key, 0) % SLOTS


@cache
def tags() -> tuple[bytes, ...]:
    """Give for each slot a hash tag that lies in it: the first number, in hex, that does."""
    found: dict[int, bytes] = {}
    for number in count():
        tag = b"%x" % number
        found.setdefault(crc_hqx(tag, 0) % SLOTS, tag)
        if len(found) == SLOTS:
            break
    return tuple(found[slot] for slot in range(SLOTS))


def last_slots(owners: Sequence[Host | None]) -> list[int]:
    """Give the last slot of each server that has any."""
    return [*{owner: slot for slot, owner in enumerate(owners) if owner is not None}.values()]


class Cluster(Nodes):
    """Primaries that each have some of the slots; which, they are asked when it seems to change."""

    spread = True

    def __init__(
        self,
        seeds: Sequence[Host],
        connect: Callable[[Host, float | None], Connection],
        wait: float,
    ) -> None:
        self._seeds = tuple(seeds)
        self._connect = connect
        self._wait = wait
        self._pools: dict[Host, Pool] = {}
        self._others: tuple[Host, ...] = ()
        self._owners: list[Host | None] = []
        self._stale = True
        self._failed: Host | None = None
        self._asking = threading.Lock()
        self.moves = 0
        """How often slots were found elsewhere than they were thought to be."""

    def owners(self, until: float | None) -> list[Host | None]:
        """Give each slot's primary, as far as is known."""
        if self._stale:
            # While one asks, the others go by what was known, if anything was.
            patience = 0.0 if self._owners else left(until, self._wait)
            if self._asking.acquire(timeout=patience):
                try:
                    if self._stale:
                        self._learn(until)
                finally:
                    self._asking.release()
            elif not self._owners:
                raise TimeoutError("nobody knows yet which slots are whose")
        return self._owners

    def ask(self, commands: Sequence[Keyed], until: float | None) -> list[Any]:
        """Give the replies to commands, whose keys are each of one slot."""
        owners, replies = self.owners(until), [None] * len(commands)
        groups: dict[tuple[Host, bool], list[int]] = {}
        for place, (key, _) in enumerate(commands):
            owner = owners[slot_of(key)]
            if owner is None:
                self._stale = True
                raise ConnectionError("no server of the cluster has the slot of a key")
            groups.setdefault((owner, False), []).append(place)
        for _ in range(_ROUNDS):
            self._exchange(groups, commands, replies, until)
            groups = {}
            for place, reply in enumerate(replies):
                if isinstance(reply, Refused) and reply.code in _ELSEWHERE:
                    groups.setdefault(self._sent_to(reply), []).append(place)
            if not groups:
                break
        return replies

    def primaries(self, until: float | None) -> list[bytes]:
        """Give a key of each primary's: of the last of its slots."""
        return [b"{" + tags()[slot] + b"}" for slot in last_slots(self.owners(until))]

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.copy().values():
            pool.empty()

    def _pool(self, host: Host) -> Pool:
        pool = self._pools.get(host)
        if pool is None:
            pool = self._pools.setdefault(host, Pool(lambda until: self._connect(host, until)))
        return pool

    def _exchange(
        self,
        groups: dict[tuple[Host, bool], list[int]],
        commands: Sequence[Keyed],
        replies: list[Any],
        until: float | None,
    ) -> None:
        """Send each server its commands, then put their replies in place."""
        taken: list[tuple[Host, Connection]] = []
        now: Host | None = None
        try:
            for (host, asking), places in groups.items():
                now = host
                connection = self._pool(host).take(until)
                taken.append((host, connection))
                some = [commands[place][1] for place in places]
                if asking:
                    some = [one for command in some for one in (("ASKING",), command)]
                connection.send(packed(some), until)
            for (host, connection), ((_, asking), places) in zip(
                taken, groups.items(), strict=True
            ):
                now = host
                found = connection.receive(len(places) * (1 + asking), until)
                for place, reply in zip(places, found[asking :: 1 + asking], strict=True):
                    replies[place] = reply
        except BaseException:
            for _, connection in taken:
                connection.close()
            self._failed, self._stale = now, True
            raise
        for host, connection in taken:
            self._pool(host).keep(connection)

    def _sent_to(self, reply: Refused) -> tuple[Host, bool]:
        """Read where a command belongs: `MOVED 3999 127.0.0.1:6381`."""
        code, slot, place = str(reply).split(" ")[:3]
        name, _, port = place.rpartition(":")
        if not (slot.isdigit() and port.isdigit() and int(slot) < SLOTS):
            raise ConnectionError("a server sends calls nowhere")
        known = self._owners[int(slot)]
        host = (name or (known[0] if known else self._seeds[0][0]), int(port))
        if code == "MOVED":
            self._owners[int(slot)] = host
            self._stale, self.moves = True, self.moves + 1
        return host, code == "ASK"

    def _learn(self, until: float | None) -> None:
        """Ask one server after the other which slots are whose; that which failed comes last."""
        ends = time.monotonic() + left(until, self._wait)
        known = dict.fromkeys([*self._pools, *self._others, *self._seeds])
        hosts = sorted(known, key=lambda host: host == self._failed)
        trouble: Exception = ConnectionError("no server of the cluster knows its slots")
        for host in hosts:
            now = time.monotonic()
            # One that hangs leaves time for the others.
            share = now + (ends - now) / 2
            pool = self._pool(host)
            try:
                connection = pool.take(share)
                try:
                    (reply,) = asked(connection, [_TABLE], share)
                except BaseException:
                    connection.close()
                    raise
            except (OSError, Refused) as error:
                trouble = error
                continue
            pool.keep(connection)
            if isinstance(reply, list) and reply:
                self._know(reply, host)
                return
            trouble = reply if isinstance(reply, Refused) else trouble
        raise trouble

    def _know(self, ranges: Iterable[Any], teller: Host) -> None:
        owners: list[Host | None] = [None] * SLOTS
        others: list[Host] = []
        for first, last, *servers in ranges:
            hosts = [((name or b"").decode() or teller[0], int(port)) for name, port, *_ in servers]
            owners[first : last + 1] = [hosts[0]] * (last + 1 - first)
            others += hosts
        there = set(others)
        for host in [one for one in self._pools.copy() if one not in there]:
            self._pools.pop(host).empty()
        if owners != self._owners:
            self.moves += 1
        self._owners, self._others, self._stale = owners, tuple(dict.fromkeys(others)), False
