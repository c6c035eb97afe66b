"""How the servers at an address are reached."""

from featurestore.storage.address import Address, Host
from featurestore.storage.cluster import Cluster
from featurestore.storage.connection import Command, Connection, opened
from featurestore.storage.nodes import Nodes, One
from featurestore.storage.sentinel import Sentinels


def nodes(address: Address, *, wait: float) -> Nodes:
    """Give the servers at an address; nothing is sent yet. `wait` bounds each wait, seconds.

    Raises:
        ValueError: a file of its TLS settings cannot be read.
    """
    tls = None if address.tls is None else address.tls.context()
    hello: list[Command] = []
    if address.db:
        hello.append(("SELECT", address.db))
    if address.client_name:
        hello.append(("CLIENT", "SETNAME", address.client_name))

    def connect(place: Host | str, until: float | None) -> Connection:
        login = address.login
        return opened(place, login=login, hello=hello, tls=tls, wait=wait, until=until)[0]

    if address.kind == "cluster":
        return Cluster(address.hosts, connect, wait)
    if address.kind == "single":
        place = address.hosts[0] if address.path is None else address.path
        return One(lambda until: connect(place, until))

    def ask(host: Host, until: float) -> Connection:
        login = address.sentinel
        return opened(host, login=login, hello=(), tls=tls, wait=wait, until=until)[0]

    sentinels = Sentinels(address, ask, wait)

    last: list[Host] = []

    def primary(until: float | None) -> Connection:
        host = sentinels.primary(until)
        if last and last[0] != host:
            # Nobody may go on reading from who was the primary before.
            found.close()
        last[:] = [host]
        connection, replies = opened(
            host,
            login=address.login,
            hello=[*hello, ("ROLE",)],
            tls=tls,
            wait=wait,
            until=until,
        )
        if replies[-1][0] != b"master":
            connection.close()
            raise ConnectionError("the sentinels name a server that is no primary now")
        return connection

    found = One(primary)
    return found
