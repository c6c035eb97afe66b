"""Where a server may listen, and with which certificates; needs the standard library alone."""

import errno
import ipaddress
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.errors import InvalidRequest, Unavailable

ENDING = tuple(one for one in signal.Signals if one.name in {"SIGTERM", "SIGINT", "SIGHUP"})
"""Signals that end a server, once running calls have ended."""

_TRIES = 8
"""Free ports of TCP that are looked at before one must be free of UDP, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A server's certificate chain and key, as PEM, and the authority of its clients', if any."""

    cert: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None


def read_tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Read a server's certificate files; None if there are none.

    Raises:
        InvalidRequest: one of a pair is missing, or a file is not what it must be.
    """
    if cert is None or key is None:
        given = {"--tls-cert": cert, "--tls-key": key, "--client-ca": client_ca}
        alone = next((name for name, path in given.items() if path is not None), None)
        if alone is None:
            return None
        raise InvalidRequest(f"{alone}: came alone; give --tls-cert and --tls-key together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a password would have it asked for at the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"--tls-cert, --tls-key: {cert} and {key} are no certificate chain and its key, as PEM "
            "and without a password"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"--client-ca: {client_ca} holds no certificate of an authority, as PEM"
            ) from error
    return Tls(
        cert=cert.read_bytes(),
        key=key.read_bytes(),
        client_ca=None if client_ca is None else client_ca.read_bytes(),
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_public(host: str, *, tls: bool, insecure: bool) -> None:
    """Refuse to listen where others could read along, unless that was said.

    Raises:
        InvalidRequest: the host is not loopback, and there is neither TLS nor leave to do without.
    """
    if not (tls or insecure or is_loopback(host)):
        raise InvalidRequest(
            f"--host: {host} is reached from other machines, and without TLS whoever is between "
            "reads features and tokens; give --tls-cert and --tls-key, or, where the network "
            "itself is safe, --insecure"
        )


def address_of(text: str, option: str) -> tuple[str, int]:
    """Read `HOST:PORT`, or a port alone of loopback.

    Raises:
        InvalidRequest: it is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise InvalidRequest(f"{option}: {text!r} is not HOST:PORT, or a port of this machine")
    return host or "127.0.0.1", int(port)


@contextmanager
def reserve(host: str, port: int) -> Iterator[int]:
    """Hold a port (0: a free one) for workers that share it; gives it, and listens to nobody.

    Raises:
        Unavailable: somebody has it, other workers too, or the host is not one of this machine.
    """
    with ExitStack() as held:
        for left in reversed(range(1 if port else _TRIES)):
            try:
                number = _held(host, port, held)
                break
            except Unavailable:
                if not left:
                    raise
        yield number


def _held(host: str, port: int, held: ExitStack) -> int:
    """Bind a port for as long as the stack stands.

    Anybody may bind a port of TCP on which nobody listens yet, and workers that start do not: a
    port that was in use a moment ago cannot be bound in another way. So the port of UDP is held
    with it, which one alone can bind.
    """
    try:
        guard = held.enter_context(_socket(host, port, socket.SOCK_DGRAM))
        port = int(guard.getsockname()[1])
        found = held.enter_context(_socket(host, port, socket.SOCK_STREAM))
        # Shared only from here on: so whoever listens there already was found out.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except _Taken as error:
        raise Unavailable(
            f"{host}:{port}: the workers of another `featurestore serve` have this port (or "
            "another program has it for UDP); stop that one first, or choose a free port (0 finds "
            "one)"
        ) from error
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port) from error
    return port


class _Taken(OSError):
    """Another process holds a port for its workers."""


def _socket(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(
        host.strip("[]"), port, type=kind, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind)
    try:
        if kind is socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
    except OSError as error:
        made.close()
        if kind is socket.SOCK_DGRAM and error.errno == errno.EADDRINUSE:
            raise _Taken(*error.args) from error
        raise
    return made


def cannot_listen(host: str, port: int) -> Unavailable:
    """Give the error for a port that cannot be had."""
    return Unavailable(f"{host}:{port}: cannot listen there; choose a free port (0 finds one)")
