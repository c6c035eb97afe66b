"""The floor of serving: a bare gRPC handler that answers known requests with stored bytes."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

METHOD = "GetOnlineFeatures"


def main() -> int:
    """Serve with as many threads as the second argument says; the first is a folder of pairs.

    `N.request` is answered with `N.reply`. Prints one JSON line with the address, ends on SIGTERM.
    """
    folder, threads, service = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    pairs = [(file, file.with_suffix(".reply")) for file in folder.glob("*.request")]
    replies = {asked.read_bytes(): reply.read_bytes() for asked, reply in pairs}

    def call(raw: bytes, _: grpc.ServicerContext) -> bytes:
        return replies[raw]

    server = grpc.server(
        ThreadPoolExecutor(threads), options=[("grpc.max_send_message_length", 64 << 20)]
    )
    standing = health.HealthServicer()
    standing.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(standing, server)
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(json.dumps({"address": f"127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
