"""Secrets, keys and values show nowhere, whatever goes wrong: neither told, counted nor listed."""

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import polars as pl
import pytest

from featurestore import TLS, FeatureClient
from featurestore.errors import FeatureStoreError
from featurestore.storage.redis import OnlineStore
from tests.authority import OPENSSL, authority
from tests.crews import Crew
from tests.crews import running as running_crew
from tests.faults.broken import ended
from tests.releases import at, load_rows, publish, release_of, stored_view
from tests.servers import client_of, running

PASSWORD, TOKEN, OTHER = "canary-password-1f", "canary-token-2e", "canary-token-3d"
ENTITY, VALUE, DATA = "canary-entity-4c", "canary-value-5b", "canary-data-6a"
VIEW = stored_view("view", {"plane": "string"}, {"a": "string", "b": "float64"})
ACCESS = f"""
[callers.pricing]
tokens = ["{sha256(TOKEN.encode()).hexdigest()}"]
services = ["*"]
features = ["view:*", "view:a", "view:b"]
"""


class Heard:
    """What was told to callers: errors as they are shown, and what clients say of themselves."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.failed = 0

    def of(self, call: Callable[[], object]) -> None:
        """Make a call, and keep its error, with its trace."""
        try:
            call()
        except FeatureStoreError as error:
            self.failed += 1
            self.texts += [str(error), repr(error), *traceback.format_exception_only(error)]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Keep what is told."""
    return Heard()


def listed(crew: Crew) -> list[str]:
    """Give the command lines of a crew's processes, as anybody on the machine may list them."""
    pids = [crew.process.pid, *crew.pids()]
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl")
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_a_canary_shows_nowhere(tmp_path: Path, heard: Heard, capfd: pytest.CaptureFixture) -> None:
    """Calls that are answered, refused, torn and cut off leave no word of it anywhere."""
    signer = authority(tmp_path)
    own = signer.sign("server", alternative="IP:127.0.0.1")
    (tmp_path / "access.toml").write_text(ACCESS)
    body = own.key.read_text().splitlines()[1]
    with running("valkey", tmp_path) as redis:
        with redis.client() as client:
            client.config_set("requirepass", PASSWORD)
        url = redis.url.replace("//", f"//:{PASSWORD}@")
        store = OnlineStore.connect(url, project=f"secrets-{uuid4().hex[:8]}")
        rows = pl.DataFrame({"plane": [ENTITY], "a": [VALUE], "b": [0.5]})
        load_rows(store, VIEW, rows, [at()])
        publish(store, release_of(store, [VIEW]))
        options = ("--slow=0", f"--tls-cert={own.cert}", f"--tls-key={own.key}")
        access = f"--access={tmp_path / 'access.toml'}"
        with running_crew(url, store.project, tmp_path, *options, access) as crew:
            tls = TLS(roots=signer.root.cert)
            with (
                FeatureClient(crew.address, tls=tls, token=TOKEN, timeout=10) as good,
                FeatureClient(crew.address, tls=tls, token=OTHER, timeout=10) as bad,
            ):
                asked = {"entities": {"plane": [ENTITY]}}
                found = good.get_online_features(["view:a"], **asked)
                assert found.to_dict()["a"] == [VALUE]
                for wanted in (["view:a"], DATA, [f"view:{ENTITY}"]):
                    heard.of(lambda: bad.get_online_features(wanted, **asked))  # noqa: B023
                for wrong in (
                    {"plane": pl.Series([[ENTITY]])},
                    {"other": [ENTITY]},
                    {"plane": [{"x": DATA}]},
                ):
                    heard.of(lambda: good.get_online_features(["view:a"], entities=wrong))  # noqa: B023
                heard.of(lambda: good.push("view_source", {"plane": [ENTITY], "a": [VALUE]}))
                heard.texts += [repr(good), repr(bad), repr(store), repr(tls), str(store)]
                with client_of(url) as client:
                    (place,) = client.keys("*canary-entity*")
                    client.set(place, VALUE)
                heard.of(lambda: good.get_online_features(["view:a"], **asked))
                ended(redis)
                heard.of(lambda: good.get_online_features(["view:a"], **asked))
                heard.of(store.ping)
                heard.texts += listed(crew)
                (told,) = crew.told("metrics")
                with urlopen(str(told["url"]), timeout=10) as answer:
                    heard.texts.append(answer.read().decode())
        assert len(crew.told("slow")) > 1
        heard.texts += [crew.log.read_text(), *capfd.readouterr()]
        with suppress(FeatureStoreError):
            store.close()
    assert heard.failed == 10
    everything = json.dumps(heard.texts)
    for secret in (PASSWORD, TOKEN, OTHER, ENTITY, VALUE, DATA, body):
        assert secret not in everything, [one[:300] for one in heard.texts if secret in one]
