"""Addresses of Redis: what each URL means, and that nothing of a bad one is ever repeated."""

import pytest

from featurestore.storage.address import Login, Tls, address, with_options
from featurestore.storage.client import connected

SECRET = "s3cret"

GOOD = {
    "redis://h": ("single", (("h", 6379),), "", 0),
    "redis://h:1/3": ("single", (("h", 1),), "", 3),
    "redis://[::1]:7/": ("single", (("::1", 7),), "", 0),
    "redis://h?db=4": ("single", (("h", 6379),), "", 4),
    "redis://": ("single", (("localhost", 6379),), "", 0),
    "rediss://h:1": ("single", (("h", 1),), "", 0),
    "redis+sentinel://a,b:9,[::1]:8/main": (
        "sentinel",
        (("a", 26379), ("b", 9), ("::1", 8)),
        "main",
        0,
    ),
    "rediss+sentinel://a/a%2Fb/5": ("sentinel", (("a", 26379),), "a/b", 5),
    "redis+cluster://a:1,b:2": ("cluster", (("a", 1), ("b", 2)), "", 0),
    "rediss+cluster://a/0": ("cluster", (("a", 6379),), "", 0),
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_says_what_is_there(url):
    """Kind, hosts, service and database; TLS where the scheme says so."""
    found = address(url)
    assert (found.kind, found.hosts, found.service, found.db) == GOOD[url]
    assert (found.tls is not None) == url.startswith("rediss")


def test_a_socket_is_named_by_its_path():
    """A Unix socket has no host; its user stands before the path."""
    found = address("unix://ann:x@/tmp/a%20b.sock?db=2")
    assert (found.path, found.hosts, found.db) == ("/tmp/a b.sock", (), 2)
    assert found.login == Login(user="ann", password="x")
    assert found.where == "unix:///tmp/a%20b.sock"


def test_users_and_files_stand_in_the_query_or_before_the_host():
    """What the query says comes first; signs survive; sentinels have users of their own."""
    url = "rediss+sentinel://a:p%40@h/main?username=ann&sentinel_password=%26%3D&ssl_keyfile=k.pem"
    found = address(f"{url}&ssl_ca_certs=ca.pem&ssl_certfile=c.pem&ssl_check_hostname=False")
    assert found.login == Login(user="ann", password="p@")
    assert found.sentinel == Login(password="&=")
    assert found.tls == Tls(
        ca_certs="ca.pem", certfile="c.pem", keyfile="k.pem", check_hostname=False
    )
    assert found.where == "rediss+sentinel://h/main"


def test_no_secret_is_shown():
    """Neither the address nor its parts show a password."""
    url = f"redis+sentinel://a:{SECRET}@h/main?sentinel_password={SECRET}&client_name={SECRET}"
    assert SECRET not in f"{address(url)!r} {address(url)}"


def test_waits_and_retries_are_not_a_urls_to_say():
    """What other clients read from a query is passed over."""
    assert address("redis://h?socket_timeout=60&retry_on_timeout=true") == address("redis://h")


BAD = {
    "": "write redis://host:port/db",
    "http://h": "write redis://host:port/db",
    "redis://h:port": "write redis://host:port/db",
    "redis://h:99999": "write redis://host:port/db",
    "h:6379": "write redis://host:port/db",
    f"redis://:{SECRET}/x@h": "%2F %3F %23 %40",
    f"redis://:{SECRET}#x@h": "%2F %3F %23 %40",
    f"redis://:{SECRET}?x@h": "%2F %3F %23 %40",
    f"redis://:{SECRET}\u2100@h": "%2F %3F %23 %40",
    f"redis://h?password=a&{SECRET}=b": "may have username, password",
    f"redis://h/{SECRET}": "a database is a number; write /0",
    "redis://h/1/2": "write /0",
    "redis://a,b": "redis+sentinel:// or redis+cluster://",
    "redis+sentinel://a,b": "names no service; write redis+sentinel://",
    "redis+cluster://a/1": "a cluster has one database",
    "rediss://h?ssl_check_hostname=perhaps": "neither true nor false",
}


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_and_not_repeated(url):
    """The error says what to write, and nothing of what was written."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        address(url)
    assert BAD[url] in str(caught.value)
    assert SECRET not in f"{caught.value}"
    assert caught.value.__cause__ is None


def test_files_that_cannot_be_read_are_told_without_their_names(tmp_path):
    """A path may tell as much as a password."""
    (tmp_path / SECRET).write_text("no certificate")
    for name in ("ca_certs", "certfile"):
        for path in (tmp_path / SECRET, tmp_path / "absent"):
            with pytest.raises(ValueError, match="ssl_ca_certs, ssl_certfile") as caught:
                Tls(**{name: str(path)}).context()
            assert SECRET not in str(caught.value)


def test_options_are_added_to_a_query_and_replace_what_it_said():
    """The rest of the URL stays; no option, no change."""
    url = "redis+cluster://a,b?username=x&client_name=me"
    found = with_options(url, {"username": "ann", "password": "a&b=c@d"})
    assert address(found).login == Login(user="ann", password="a&b=c@d")
    assert address(found).client_name == "me"
    assert with_options(url, {}) == url


def test_a_stream_is_read_from_one_server():
    """A cluster is refused before anything is sent."""
    with pytest.raises(ValueError, match="one server"):
        connected("redis+cluster://h", timeout=1.0)
