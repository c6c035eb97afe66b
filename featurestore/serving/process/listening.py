"""Where a server may listen, and with which certificates; needs the standard library alone."""

import ipaddress
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.errors import InvalidRequest, Unavailable


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


def reserve(host: str, port: int) -> socket.socket:
    """Take a port (0: a free one) that others may then share; it listens to nobody itself.

    Raises:
        Unavailable: somebody listens there, or the host is not one of this machine.
    """
    found: socket.socket | None = None
    try:
        family, kind, *_, where = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(where)
        # Shared only from here on: so a server that listens there already was found out.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        if found is not None:
            found.close()
        raise cannot_listen(host, port) from error
    return found


def cannot_listen(host: str, port: int) -> Unavailable:
    """Give the error for a port that cannot be had."""
    return Unavailable(f"{host}:{port}: cannot listen there; choose a free port (0 finds one)")
