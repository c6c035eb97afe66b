"""A serving process whose certificates and access file change while it runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import copyfile

import pytest

from featurestore import TLS, FeatureClient, FeatureStoreError
from featurestore.errors import Unauthenticated
from featurestore.storage.redis import OnlineStore
from tests.authority import OPENSSL, Authority, Signed, authority
from tests.crews import one_row, started
from tests.servers import Server as Redis
from tests.servers import wait_until

CALLER = '[callers.somebody]\ntokens = ["{}"]\nfeatures = ["view:*"]\n'


@pytest.fixture(scope="module")
def store(valkey: Redis) -> Iterator[OnlineStore]:
    """Load a project of one row."""
    with one_row(valkey.url) as store:
        yield store


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A serving process: where it listens, and its log."""

    address: str
    log: Path

    def told(self, event: str) -> int:
        """Count what was logged of an event."""
        return self.log.read_text().count(f'"event": "{event}"')


@contextmanager
def serving(store: OnlineStore, url: str, folder: Path, *options: str) -> Iterator[Serving]:
    """Run a process for the length of a block."""
    log = folder / "log"
    command = [sys.executable, "-m", "featurestore.serving", f"--project={store.project}"]
    with started([*command, "--log-json", *options], url, log) as (process, address):
        yield Serving(address=address, log=log)
    assert process.returncode == 0


def ask(address: str, **options: object) -> None:
    """Look the row up on a connection of its own."""
    with FeatureClient(address, timeout=5, **options) as client:
        assert client.get_online_features(["view:a"], [{"key": 1}]).statuses


def answers(address: str, **options: object) -> bool:
    """Say whether a lookup is answered."""
    try:
        ask(address, **options)
    except FeatureStoreError:
        return False
    return True


def test_a_token_that_is_replaced_is_refused_and_the_new_one_answered(valkey, store, tmp_path):
    """On connections that stand, too. A file that is broken, or gone, changes nothing."""
    path = tmp_path / "access.toml"

    def allow(token: str) -> None:
        path.write_text(CALLER.format(sha256(token.encode()).hexdigest()))

    allow("old")
    with (
        serving(store, valkey.url, tmp_path, f"--access={path}") as server,
        FeatureClient(server.address, timeout=5, token="old") as standing,
    ):
        assert standing.get_online_features(["view:a"], [{"key": 1}]).statuses
        allow("new")
        wait_until(lambda: server.told("reread"))
        ask(server.address, token="new")
        with pytest.raises(Unauthenticated):
            standing.get_online_features(["view:a"], [{"key": 1}])
        path.write_text("[callers")
        wait_until(lambda: server.told("reread_failed") == 1)
        path.unlink()
        wait_until(lambda: server.told("reread_failed") == 2)
        ask(server.address, token="new")
        assert not answers(server.address)


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl")
def test_new_connections_have_the_new_certificates(valkey, store, tmp_path):
    """The server's own and the authority of its clients'; half of a pair waits for the other."""
    authorities = [authority(tmp_path, name) for name in ("old", "new")]
    own = Signed(cert=tmp_path / "own.pem", key=tmp_path / "own.key")
    clients = tmp_path / "clients.pem"

    def known_by(one: Authority) -> TLS:
        mine = one.sign(f"client-of-{one.root.cert.stem}")
        return TLS(roots=one.root.cert, certificate=mine.cert, key=mine.key)

    old, new = map(known_by, authorities)
    signed = [one.sign(f"server-{at}.example.org") for at, one in enumerate(authorities)]
    copyfile(signed[0].cert, own.cert)
    copyfile(signed[0].key, own.key)
    copyfile(authorities[0].root.cert, clients)
    options = (f"--tls-cert={own.cert}", f"--tls-key={own.key}", f"--client-ca={clients}")
    with serving(store, valkey.url, tmp_path, *options) as server:
        ask(server.address, tls=old)
        copyfile(signed[1].cert, own.cert)
        wait_until(lambda: server.told("reread_failed"))
        ask(server.address, tls=old)
        copyfile(authorities[1].root.cert, clients)
        copyfile(signed[1].key, own.key)
        wait_until(lambda: server.told("reread"))
        ask(server.address, tls=new)
        assert not answers(server.address, tls=old)
        mixed = TLS(roots=new.roots, certificate=old.certificate, key=old.key)
        assert not answers(server.address, tls=mixed)
