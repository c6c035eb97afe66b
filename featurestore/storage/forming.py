"""Makes one cluster of servers that run on this machine: for trials, benchmarks and tests."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import redis

PRIMARIES = 3
OPTIONS = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
"""What a server must be started with, besides a `--cluster-port` of its own."""
_EDGES = (0, 5_461, 10_923, 16_384)
_PATIENCE = 30.0


def form(places: Sequence[tuple[int, int]]) -> None:
    """Make empty servers one cluster, by the port and cluster port of each.

    The first three share the slots; of the others each is a replica of one of them, in turn. It
    returns once all of them agree.

    Raises:
        ConnectionError: one of them cannot be reached.
        TimeoutError: they did not come to agree.
    """
    with ExitStack() as stack:
        nodes: list[Any] = [
            stack.enter_context(redis.Redis(port=port, protocol=2, socket_timeout=_PATIENCE))
            for port, _ in places
        ]
        for number, node in enumerate(nodes):
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node, first, end in zip(nodes, _EDGES[:-1], _EDGES[1:], strict=False):
            node.execute_command("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for port, bus in places[1:]:
            nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        names = [node.execute_command("CLUSTER MYID").decode() for node in nodes]
        for number, node in enumerate(nodes[PRIMARIES:]):
            primary = names[number % PRIMARIES]
            _await(partial(_knows, node, primary))
            node.execute_command("CLUSTER REPLICATE", primary)
        _await(lambda: all(_agrees(node, len(nodes)) for node in nodes))


def _knows(node: Any, name: str) -> bool:
    return name in str(node.execute_command("CLUSTER NODES"))


def _agrees(node: Any, size: int) -> bool:
    told = node.execute_command("CLUSTER INFO")
    told = str(told) if isinstance(told, dict) else told.decode()
    shards = node.execute_command("CLUSTER SHARDS")
    known = sum(len(dict(zip(one[::2], one[1::2], strict=True))[b"nodes"]) for one in shards)
    serving = "'ok'" in told or "cluster_state:ok" in told
    return serving and known == size and len(shards) == PRIMARIES


def _await(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError("the servers did not come to agree on one cluster")
        time.sleep(0.01)
