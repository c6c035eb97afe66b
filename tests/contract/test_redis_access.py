"""Who may call Redis, and over what: users with their rights, certificates, mutual TLS.

Debian's Redis speaks TLS; the embedded Valkey does not.
"""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.storage.client import connected
from featurestore.storage.redis import OnlineStore
from tests.servers import BINARIES, free_port, running

TABLE = "7f3a9c1e04b2aa10.0"
SECRET = "s3cret-of-ann"

pytestmark = pytest.mark.skipif(
    BINARIES["redis"] is None or shutil.which("openssl") is None,
    reason="needs Debian's redis-server, which speaks TLS, and openssl",
)


@dataclass(frozen=True)
class Secured:
    """A server's TLS port and the files that it and its clients have."""

    port: int
    place: Path

    def url(self, *, user: str = "ann", password: str = SECRET, cert: str = "client") -> str:
        """Give a URL by which a user calls, with a certificate of this name, or none."""
        files = f"?ssl_ca_certs={self.place}/ca.crt"
        if cert:
            files += f"&ssl_certfile={self.place}/{cert}.crt&ssl_keyfile={self.place}/{cert}.key"
        return f"rediss://{user}:{password}@127.0.0.1:{self.port}/0{files}"


def openssl(place: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(["openssl", *arguments], cwd=place, check=True, capture_output=True)


def certified(place: Path) -> None:
    """Make a CA, and certificates by it: of this machine, of another one, and of a client."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(place, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    for name, also in (("server", "IP:127.0.0.1"), ("client", "DNS:client")):
        openssl(
            place, "req", "-x509", *key, "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout",
            f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={also}", "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Run a server that wants certificates of its clients, and knows two users."""
    place = tmp_path_factory.mktemp("tls")
    certified(place)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "yes"]
    for name in ("ca-cert", "cert", "key"):
        file = {"ca-cert": "ca.crt", "cert": "server.crt", "key": "server.key"}[name]
        options += [f"--tls-{name}-file", str(place / file)]
    options += ["--user", "ann", "on", f">{SECRET}", "~fs1/*", "~{*}fs1/*", "+@all", "-@dangerous"]
    options += ["--user", "bob", "on", f">{SECRET}", "~*", "+get", "+ping"]
    options += ["--user", "default", "on", "nopass", "-@all", "+info", "+ping"]
    with running("redis", place, *options):
        yield Secured(port, place)


def test_a_user_writes_and_reads_over_mutual_tls(secured: Secured, project: str) -> None:
    """An ordinary user's rights are enough, even without the dangerous commands."""
    store = OnlineStore.connect(secured.url(), project=project, timeout=5.0)
    store.put(TABLE, [b"k"], [b"row"])
    store.mark(TABLE)
    for _ in range(3):
        assert store.read([(TABLE, [b"k"])]) == [[b"row"]]
    assert store.read([(TABLE, [b"k" * 200_000])]) == [[None]]
    assert store.drop_table(TABLE) == 1
    store.close()
    _, client = connected(secured.url(), timeout=5.0)
    assert client.ping()
    client.close()


REFUSED = {
    "a password that is wrong": (
        {"password": "wr0ng"},
        r"refused the call \(WRONGPASS\).*password",
    ),
    "a user that is not there": ({"user": "eve"}, r"refused the call \(WRONGPASS\)"),
    "no rights": ({"user": "bob"}, r"refused the call \(NOPERM\).*rights"),
    "no certificate": ({"cert": ""}, "cannot be reached"),
}


@pytest.mark.parametrize(("by", "said"), REFUSED.values(), ids=REFUSED)
def test_who_may_not_is_told_so_without_secrets(
    secured: Secured, project: str, by: dict[str, str], said: str
) -> None:
    """The error names what to look at; neither it, its cause nor the store shows a password."""
    store = OnlineStore.connect(secured.url(**by), project=project, timeout=5.0)
    with pytest.raises(Unavailable, match=said) as caught:
        store.mark(TABLE)
    shown = f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r} {store!r}"
    assert SECRET not in shown
    assert "wr0ng" not in shown
    store.close()


def test_a_server_that_proves_nothing_is_not_talked_to(secured: Secured, project: str) -> None:
    """Its certificate must be by a CA that is known, and of the host that was named."""
    strangers = secured.url().replace("/ca.crt", "/client.crt", 1)
    elsewhere = secured.url().replace("127.0.0.1", "localhost")
    for url in (strangers, elsewhere):
        store = OnlineStore.connect(url, project=project, timeout=5.0)
        with pytest.raises(Unavailable, match=r"cannot be reached \(SSLCertVerificationError\)"):
            store.ping()
        store.close()
    store = OnlineStore.connect(f"{elsewhere}&ssl_check_hostname=false", project=project)
    store.ping()
    store.close()


def test_files_that_are_not_there_are_refused_at_once(secured: Secured, project: str) -> None:
    """Nothing is sent; the error names the setting."""
    with pytest.raises(InvalidRequest, match=r"online_store\.connection_string: .*ssl_ca_certs"):
        OnlineStore.connect(secured.url(cert="absent"), project=project)
