"""Names and addresses, and who waits for them."""

import socket
import threading
import time

import pytest

from featurestore.storage.resolve import addresses


def test_an_address_is_asked_of_nobody(monkeypatch):
    """It is one already, however little time there is."""
    monkeypatch.setattr(threading, "Thread", None)
    for host in ("127.0.0.1", "::1"):
        ((*_, place),) = addresses((host, 6379), time.monotonic())
        assert place[:2] == (host, 6379)


def test_a_name_has_the_systems_addresses():
    """As many as the system gives."""
    known = socket.getaddrinfo("localhost", 6379, type=socket.SOCK_STREAM)
    assert addresses(("localhost", 6379), time.monotonic() + 5) == known


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 70, ".."])
def test_a_name_that_is_none_is_an_error_of_the_network(name):
    """What cannot be looked up is told from a bug, each time anew."""
    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011 - the system says it in its own words
            addresses((name, 6379), time.monotonic() + 5)
