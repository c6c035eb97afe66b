"""The laws of where a client's calls go, and of what goes with them."""

from pathlib import Path
from typing import Any

import pytest

from featurestore.errors import InvalidRequest
from featurestore.serving.client.channel import TLS, endpoint_of

CANARY = "canary-7f3a"


def endpoint(given: Any, **options: Any) -> Any:
    """Read an address with the usual settings."""
    return endpoint_of(given, **{"tls": None, "token": None, "reply_bytes": 1, **options})


TARGETS = {
    "one": ("host:1", "host:1"),
    "one in a list": (["host:1"], "host:1"),
    "a name of several": ("dns:///features:6566", "dns:///features:6566"),
    "a socket": ("unix:/run/features", "unix:/run/features"),
    "several": ("10.0.0.1:1, 10.0.0.2:2", "ipv4:10.0.0.1:1,10.0.0.2:2"),
    "a list": (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
    "this machine": ("localhost:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2"),
    "IPv6": ("[::1]:1,[fe80::1]:2", "ipv6:[::1]:1,[fe80::1]:2"),
}


@pytest.mark.parametrize(("given", "target"), TARGETS.values(), ids=TARGETS)
def test_an_address_is_one_server_or_several_ip_addresses(given: Any, target: str) -> None:
    """Several become the one target that gRPC goes round."""
    assert endpoint(given).target == target


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (None, {}, "address: is empty"),
    "blank": ("  ", {}, "address: is empty"),
    "an empty one": ("10.0.0.1:1,,10.0.0.2:2", {}, "address: is empty"),
    "a number": ([5], {}, "address: is empty"),
    "a number alone": (5, {}, "address: is empty"),
    "TLS by a word": ("host:1", {"tls": True}, r"tls: bool says nothing; pass TLS\(roots=…\)"),
    "no size": ("host:1", {"reply_bytes": None}, "reply_bytes: None is no size"),
    "a size beyond gRPC's": ("host:1", {"reply_bytes": 2**31}, "reply_bytes: 2147483648 is no"),
    "a size below": ("host:1", {"reply_bytes": -1}, "reply_bytes: -1 is no size; pass bytes"),
    "names": ("10.0.0.1:1,b:2", {}, "address: 'b:2' is one of several, but no IP:PORT"),
    "no port": ("10.0.0.1,10.0.0.2:1", {}, "address: '10.0.0.1' is no HOST:PORT"),
    "a bare host": ("features", {}, "address: 'features' is no HOST:PORT with a port of 1 to"),
    "no such port": ("127.0.0.1:99999", {}, "address: '127.0.0.1:99999' is no HOST:PORT"),
    "families": ("10.0.0.1:1,[::1]:1", {}, "IPv4 and IPv6 are mixed"),
    "no name": ("10.0.0.1:1,10.0.0.2:1", {"tls": TLS()}, "tls.server_name: is not given"),
    "a token in the clear": ("10.0.0.1:1", {"token": CANARY}, "token: would travel in the clear"),
    "a name's token": ("localhost.evil:1", {"token": CANARY}, "token: would travel in the clear"),
    "one of two in the clear": (
        "127.0.0.1:1,10.0.0.1:1",
        {"token": lambda: CANARY},
        "token: would travel in the clear",
    ),
}


@pytest.mark.parametrize(("given", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_an_address_that_cannot_be_meant_is_refused(
    given: Any, options: dict[str, Any], message: str
) -> None:
    """No client is made that would fail later, or tell its token to a network."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        endpoint(given, **options)
    assert CANARY not in str(caught.value)


HERE = ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.0.1:1,127.0.0.1:2", "unix:/tmp/x"]


@pytest.mark.parametrize("given", HERE)
def test_a_token_may_stay_on_this_machine_without_tls(given: str) -> None:
    """It goes as a bearer token, and shows nowhere else."""
    made = endpoint(given, token=CANARY)
    assert made.metadata() == (("authorization", f"Bearer {CANARY}"),)
    assert CANARY not in repr(made)


def test_a_token_that_is_called_is_new_for_each_call() -> None:
    """What expires can be given anew."""
    tokens = iter(["one", "two"])
    made = endpoint("10.0.0.1:1", tls=TLS(), token=lambda: next(tokens))
    assert [made.metadata()[0][1] for _ in range(2)] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("token", [f"{CANARY}\n", f"Bearer {CANARY}", f"{CANARY}é", "", 5])
def test_a_token_that_cannot_be_sent_is_not_shown(token: Any) -> None:
    """The error says what is wrong with it, never it."""
    with pytest.raises(InvalidRequest, match="token: is not text of visible ASCII") as caught:
        endpoint("127.0.0.1:1", token=lambda: token).metadata()
    assert CANARY not in str(caught.value)


def test_a_token_of_bytes_is_no_text() -> None:
    """What is neither text nor gives it is refused, and not shown."""
    with pytest.raises(InvalidRequest, match="token: is not text of visible ASCII") as caught:
        endpoint("127.0.0.1:1", token=CANARY.encode()).metadata()
    assert CANARY not in str(caught.value)


def test_half_a_proof_is_none(tmp_path: Path) -> None:
    """A certificate without its key, or a file that is not there, is refused by its path."""
    with pytest.raises(InvalidRequest, match="tls: a client's certificate and its key"):
        TLS(certificate=b"x")
    with pytest.raises(InvalidRequest, match=r"tls\.roots: cannot be read \(FileNotFoundError\)"):
        endpoint("a:1", tls=TLS(roots=tmp_path / "gone.pem")).credentials()


def test_keys_show_nowhere() -> None:
    """The repr of what proves a client names servers, not secrets."""
    assert "secret" not in repr(TLS(roots=b"r", certificate=b"c", key=b"secret"))
