"""The laws of where a server listens."""

import socket
from pathlib import Path

import pytest

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.serving.process.listening import (
    address_of,
    check_public,
    is_loopback,
    read_tls,
    reserve,
)


@pytest.mark.parametrize(
    ("host", "loopback"),
    {
        "127.0.0.1": True,
        "127.8.9.1": True,
        "localhost": True,
        "::1": True,
        "[::1]": True,
        "0.0.0.0": False,
        "[::]": False,
        "10.0.0.1": False,
        "localhost.example.org": False,
        "": False,
    }.items(),
)
def test_only_loopback_needs_no_leave(host, loopback):
    """Where others can read along, TLS or a plain word is asked for."""
    assert is_loopback(host) is loopback
    check_public(host, tls=True, insecure=False)
    check_public(host, tls=False, insecure=True)
    if loopback:
        check_public(host, tls=False, insecure=False)
    else:
        with pytest.raises(InvalidRequest, match=r"^--host: .*--tls-cert.*--insecure"):
            check_public(host, tls=False, insecure=False)


def test_an_address_is_loopback_unless_said():
    """A port alone is this machine's."""
    assert address_of("9100", "--metrics") == ("127.0.0.1", 9100)
    assert address_of(":0", "--metrics") == ("127.0.0.1", 0)
    assert address_of("0.0.0.0:9100", "--metrics") == ("0.0.0.0", 9100)
    for text in ("", "host", "host:", "host:x", "1:99999"):
        with pytest.raises(InvalidRequest, match=r"^--metrics: .* is not HOST:PORT"):
            address_of(text, "--metrics")


def test_a_name_that_no_host_can_have_is_said_so():
    """It is refused in our words, as a host that is not there."""
    with pytest.raises(Unavailable, match=r"^a\.\.b:0: cannot listen there"):
        held(0, host="a..b")


def test_a_port_that_somebody_listens_on_is_not_shared():
    """Whoever came first has it; what is reserved can be shared, and hears nobody."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"^127\.0\.0\.1:{port}: cannot listen"):
            held(port)
    with reserve("127.0.0.1", 0) as port, socket.socket() as worker:
        where = ("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where, timeout=1)
        worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        worker.bind(where)
        worker.listen()
        socket.create_connection(where, timeout=1).close()
    with pytest.raises(Unavailable, match="cannot listen"):
        held(0, "host.invalid")


def test_a_port_is_held_for_one_crew_of_workers():
    """A second one is refused before its workers start, also while the first ones start."""
    with reserve("127.0.0.1", 0) as port:
        for host in ("127.0.0.1", "0.0.0.0"):
            said = rf"^{host}:{port}: the workers of another `featurestore serve` .*stop that one"
            with pytest.raises(Unavailable, match=said):
                held(port, host)
    held(port)


def held(port: int, host: str = "127.0.0.1") -> None:
    """Reserve a port and let it go."""
    with reserve(host, port):
        pass


def test_certificates_are_read_before_a_port_is_taken(tmp_path: Path):
    """What is no certificate, or half of a pair, is refused in words."""
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    assert read_tls(None, None, None) is None
    for cert, key, client_ca, said in (
        (bad, None, None, "--tls-cert: came alone"),
        (None, bad, None, "--tls-key: came alone"),
        (None, None, bad, "--client-ca: came alone"),
        (bad, bad, None, "no certificate chain and its key"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            read_tls(cert, key, client_ca)
