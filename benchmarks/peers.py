"""The four servers that are held against each other, and how each is asked.

Ours, a bare gRPC handler that answers our requests with our bytes, and Feast's two: `feast serve`
(HTTP, gunicorn with one worker) and `feast listen` (gRPC). Feast's are asked to look at their
registry once an hour, and HTTP's neither to log calls nor to start anew after a thousand: that
favours Feast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from load import METHOD, REQUESTS, Load, Pair, offer, put
from process import CASES, Failed, on_cores, run_case
from servers import PROJECT, Running, core, listening, pair_of, served
from works import Work

from featurestore.serving.message.limits import SERVICE, Limits

OURS, BARE, HTTP, GRPC = "ours", "bare handler", "Feast HTTP", "Feast gRPC"
LOOP = "bare handler on asyncio"
CPU = "CPU ms"
"""Processor time of the server for each request, without Redis's."""
_HOUR = "3600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server's name, where its pairs are, how it is asked, and how much saturates it."""

    name: str
    folder: Path
    path: str = METHOD
    form: Literal["grpc", "http"] = "grpc"
    connections: int = 8
    streams: int = 4
    warm: int = 50

    def pair(self, work: Work) -> Pair:
        """Say where a work's request and reply are."""
        return pair_of(self.folder, work.file)

    def load(self, work: Work, seconds: float) -> Load:
        """Give a work's load to saturation."""
        return Load(
            pair=self.pair(work),
            connections=self.connections,
            streams=self.streams,
            seconds=seconds,
            warm=self.warm,
            path=self.path,
            form=self.form,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The peers that were asked for, and those of them that run; why others do not."""

    folder: Path
    peers: Mapping[str, Peer]
    running: Mapping[str, Running]
    failed: Mapping[str, str]

    def put(self, name: str, work: Work, seconds: float) -> dict[str, float]:
        """Put a load on a peer to saturation, from the client's core."""
        return self._put(name, self.peers[name].load(work, seconds))

    def alone(self, name: str, work: Work, seconds: float) -> dict[str, float]:
        """Put one request after the other on a peer."""
        load = self.peers[name].load(work, seconds)
        return self._put(name, replace(load, connections=1, streams=1))

    def offer(self, name: str, work: Work, rate: float, seconds: float) -> dict[str, float]:
        """Offer a peer so many requests a second, in an open loop."""
        load = self.peers[name].load(work, seconds)
        return self._weighed(name, lambda address: offer(address, load, rate))

    def _put(self, name: str, load: Load) -> dict[str, float]:
        return self._weighed(name, lambda address: put(address, [load])[0])

    def _weighed(self, name: str, loaded: Callable[[str], dict[str, float]]) -> dict[str, float]:
        """Load a server, and add the processor time that it took for each request."""
        if name in self.failed:
            raise Failed(name, self.failed[name])
        server = self.running[name]
        before = server.worked()
        with on_cores(core(-1)):
            found = loaded(server.address)
        return found | {CPU: 1000 * (server.worked() - before) / found.pop(REQUESTS)}


def command(name: str, folder: Path) -> list[str]:
    """Give the command of our server, or of the bare handler of the pairs in a folder."""
    threads = str(Limits().threads)
    if name == OURS:
        return ["-m", "featurestore.serving", "--project", PROJECT, "--threads", threads]
    threads = "0" if name == LOOP else threads
    return [str(CASES / "bare_server.py"), str(ours(folder).folder), threads, SERVICE]


def crew(workers: int) -> list[str]:
    """Give the command of so many of our workers on one port."""
    module = "featurestore.serving.process.workers"
    return ["-m", module, "--workers", str(workers), *command(OURS, Path())[2:]]


def ours(folder: Path) -> Peer:
    """Say how our server is asked."""
    return Peer(name=OURS, folder=folder / "ours")


def floor(folder: Path) -> Peer:
    """Say how the bare handler is asked: as ours is, for the same bytes."""
    return replace(ours(folder), name=BARE)


@contextmanager
def standing(folder: Path, url: str, failed: dict[str, str], *, feast: bool) -> Iterator[Standing]:
    """Run ours and Feast's servers while the block lasts, on a Redis that has the data of each.

    A server of Feast's that does not start comes to stand in `failed`, with the reason. The bare
    handler is no part of it until there are replies for it to give: see `beside`.
    """
    peers = {OURS: ours(folder)} | ({one.name: one for one in _feast(folder)} if feast else {})
    peers[OURS].folder.mkdir()
    with ExitStack() as stack:
        log = folder / "ours.log"
        running = {OURS: stack.enter_context(served(command(OURS, folder), url, log))}
        for name in peers.keys() - running.keys() - failed.keys():
            try:
                running[name] = stack.enter_context(_listening(peers[name], folder))
            except Failed as problem:
                failed[name] = problem.why
        yield Standing(folder=folder, peers=peers, running=running, failed=failed)


@contextmanager
def beside(those: Standing, folder: Path, url: str) -> Iterator[Standing]:
    """Run the bare handler of our replies, too, while the block lasts."""
    with served(command(BARE, folder), url, folder / "bare.log") as bare:
        peers = {OURS: those.peers[OURS], BARE: floor(folder), **those.peers}
        yield replace(those, peers=peers, running={**those.running, BARE: bare})


def prepare_feast(folder: Path, url: str, views: int, works: Sequence[Work]) -> None:
    """Write Feast's repo, its rows into Redis, and its requests.

    Raises:
        Failed: Feast did not do it.
    """
    peers = _feast(folder)
    for peer in peers:
        peer.folder.mkdir()
    asked = [
        {
            "service": work.service,
            "key": work.kind.key,
            "entities": work.entities,
            "files": {peer.form: str(peer.pair(work).request) for peer in peers},
        }
        for work in works
    ]
    told: dict[str, Any] = {"repo": folder / "feast", "folder": folder, "url": url, "views": views}
    run_case("feast_serving.py", "prepare", **told, asked=asked)


def _feast(folder: Path) -> tuple[Peer, Peer]:
    few: dict[str, Any] = {"connections": 4, "streams": 1, "warm": 1}
    web = Peer(name=HTTP, folder=folder / "http", path="/get-online-features", form="http", **few)
    path = "/GrpcFeatureServer/GetOnlineFeatures"
    return web, Peer(name=GRPC, folder=folder / "grpc", path=path, **few)


@contextmanager
def _listening(peer: Peer, folder: Path) -> Iterator[Running]:
    feast = [str(CASES / "feast_command.py"), "--chdir", str(folder / "feast")]
    told = {
        HTTP: lambda port: [
            *feast, "serve", "--port", str(port), "--workers", "1", "--no-access-log",
            "--max-requests", "0", "--registry_ttl_sec", _HOUR,
        ],
        GRPC: lambda port: [
            *feast, "listen", "--address", f"127.0.0.1:{port}", "--registry_ttl_sec", _HOUR,
        ],
    }[peer.name]  # fmt: skip
    web = "/health" if peer.form == "http" else None
    with listening(told, folder / f"{peer.folder.name}.log", web=web) as running:
        yield running
