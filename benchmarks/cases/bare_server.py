"""The floor of serving: a bare gRPC handler that answers known requests with stored bytes."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

METHOD = "GetOnlineFeatures"
OPTIONS = [("grpc.max_send_message_length", 64 << 20)]


def main() -> int:
    """Serve with as many threads as the second argument says; the first is a folder of pairs.

    0 threads: on asyncio. `N.request` is answered with `N.reply`. Prints one JSON line with the
    address, ends on SIGTERM.
    """
    folder, threads, service = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    pairs = [(file, file.with_suffix(".reply")) for file in folder.glob("*.request")]
    replies = {asked.read_bytes(): reply.read_bytes() for asked, reply in pairs}
    if threads:
        server = grpc.server(ThreadPoolExecutor(threads), options=OPTIONS)
        _listen(server, service, health.HealthServicer(), lambda raw, _: replies[raw])
        server.start()
        threading.Event().wait()
    else:
        asyncio.run(_on_asyncio(service, replies))
    return 0


async def _on_asyncio(service: str, replies: Mapping[bytes, bytes]) -> None:
    async def call(raw: bytes, _: Any) -> bytes:
        return replies[raw]

    server = grpc.aio.server(options=OPTIONS)
    _listen(server, service, health.aio.HealthServicer(), call)
    await server.start()
    await server.wait_for_termination()


def _listen(server: Any, service: str, standing: Any, call: Callable[[bytes, Any], Any]) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(standing, server)
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    sys.stdout.write(json.dumps({"address": f"127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
