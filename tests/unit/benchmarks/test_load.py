"""Load is counted, and replies that change under it are found, with either client."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CLIENTS = ("h2load", "Python")


@pytest.fixture
def load(benchmark):
    """The module of loads."""
    return benchmark("load")


@pytest.fixture
def pair(benchmark, tmp_path):
    """A request and its reply, in a folder as the bare handler wants it."""
    folder = tmp_path / "ours"
    folder.mkdir()
    pair = benchmark("servers").pair_of(folder, "one")
    pair.request.write_bytes(b"asked")
    pair.reply.write_bytes(b"answered")
    return pair


@pytest.fixture
def bare(benchmark, tmp_path, pair):
    """The address of a bare handler of the pair."""
    servers, peers = benchmark("servers"), benchmark("peers")
    assert pair.request.exists()
    command = peers.command(peers.BARE, tmp_path)
    with servers.served(command, "", tmp_path / "log") as running:
        yield running.address


@pytest.fixture(params=CLIENTS)
def client(request, load, monkeypatch):
    """One client or the other."""
    if request.param == "Python":
        monkeypatch.setattr(load, "H2LOAD", None)
    elif load.H2LOAD is None:
        pytest.skip("h2load is not installed")
    return request.param


@pytest.mark.usefixtures("client")
def test_a_closed_loop_gives_a_rate_and_latencies(load, pair, bare):
    """Percentiles are in order, and the rate is of answered requests."""
    wanted = load.Load(pair=pair, connections=2, seconds=0.2, warm=20)
    (found,) = load.put(bare, [wanted])
    assert found.keys() == {"req/s", "requests", *load.PERCENTILES}
    assert found["req/s"] > 10
    assert 0 < found["p50 ms"] <= found["p99 ms"] <= found["p99.9 ms"]


class Web(BaseHTTPRequestHandler):
    """Answers a JSON body with the reply of the pair."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answer."""
        asked = self.rfile.read(int(self.headers["content-length"]))
        told = b"answered" if asked == b"asked" else b"?"
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def web():
    """The address of an HTTP server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("client")
def test_a_closed_loop_over_http_is_counted_likewise(load, pair, web):
    """JSON bodies over HTTP/1.1, connections kept."""
    wanted = load.Load(
        pair=pair, connections=2, seconds=0.2, warm=5, path="/get-online-features", form="http"
    )
    (found,) = load.put(web, [wanted])
    assert found["req/s"] > 10
    assert found["requests"] > 10


@pytest.mark.usefixtures("client")
def test_another_reply_than_the_pairs_is_found(benchmark, load, pair, bare):
    """A rate of wrong answers is none."""
    pair.reply.write_bytes(b"answered, longer")
    wanted = load.Load(pair=pair, connections=1, seconds=0.1, warm=5)
    with pytest.raises(benchmark("report").Unequal):
        load.put(bare, [wanted])


def test_an_open_loop_offers_its_rate(load, pair, bare):
    """About as many requests a second begin as were asked for."""
    if load.H2LOAD is None:
        pytest.skip("h2load is not installed")
    wanted = load.Load(pair=pair, connections=1, seconds=1.0)
    assert load.offer(bare, wanted, 250.0)["req/s"] == pytest.approx(250, rel=0.25)


def test_without_h2load_there_is_no_open_loop(benchmark, load, pair, monkeypatch):
    """A Python client would not keep the rate."""
    monkeypatch.setattr(load, "H2LOAD", None)
    wanted = load.Load(pair=pair, connections=1, seconds=1.0)
    with pytest.raises(benchmark("process").Failed) as refused:
        load.offer("127.0.0.1:1", wanted, 250.0)
    assert "left out" in refused.value.why
