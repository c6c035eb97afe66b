"""One serving process: `python -m featurestore.serving --project demo --port 6571`.

Redis is named by an environment variable, so that its password shows in no process list. Prints
one JSON line, `{"address": …}`, when it listens; SIGTERM and SIGINT end it gracefully, and where it
is one of several workers (see `workers`) the end of its standard input does, too.
"""

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

from featurestore.errors import FeatureStoreError, Unavailable
from featurestore.model.pushes import SKEW
from featurestore.serving.message.limits import Limits
from featurestore.serving.process.listening import ENDING
from featurestore.serving.process.log import announce, configure
from featurestore.serving.process.memory import keep_freed
from featurestore.serving.process.metrics import THREADS, Page
from featurestore.serving.process.reread import callers, certificates
from featurestore.serving.process.server import Server, serve
from featurestore.serving.push.queue import queue
from featurestore.storage.redis import OnlineStore

URL = "FEATURESTORE_REDIS_URL"
_LOOK = 0.1
"""Seconds between looks whether a signal came."""
UNREACHABLE = 6
"""The exit code the command line documents for what cannot be reached, or bound."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m featurestore.serving")
    parser.add_argument("--project", required=True)
    parser.add_argument("--alias", default="prod")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--redis-url-env", default=URL, help="the variable that holds Redis's URL")
    parser.add_argument("--redis-timeout", type=float, default=0.5, help="seconds, a wait")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for calls to end")
    _add_limits(parser)
    parser.add_argument("--tls-cert", type=Path, help="the server's certificate chain, PEM")
    parser.add_argument("--tls-key", type=Path, help="its key, PEM")
    parser.add_argument("--client-ca", type=Path, help="who signs clients' certificates: demanded")
    parser.add_argument("--access", type=Path, help="who may ask for what")
    parser.add_argument("--insecure", action="store_true", help="a public bind without TLS")
    parser.add_argument("--log-json", action="store_true", help="a JSON object a line")
    parser.add_argument("--slow", type=float, help="log calls that take so many milliseconds")
    parser.add_argument("--worker", type=int, help="one of several, this one")
    parser.add_argument("--page", type=int, help="where a worker counts: an open file's number")
    return parser.parse_args()


def _add_limits(parser: argparse.ArgumentParser) -> None:
    usual, threads = Limits(), range(1, THREADS + 1)
    parser.add_argument("--max-rows", type=int, default=usual.rows, help="rows a call may ask")
    parser.add_argument("--max-features", type=int, default=usual.outputs, help="of a call")
    parser.add_argument("--max-keys", type=int, default=usual.keys, help="rows x views of a call")
    parser.add_argument("--max-cells", type=int, default=usual.cells, help="values at a time")
    parser.add_argument("--max-calls", type=int, default=usual.calls, help="calls at a time")
    parser.add_argument(
        "--cache-rows", type=int, default=usual.kept_rows, help="rows kept, 0: none"
    )
    parser.add_argument("--cache-seconds", type=float, default=usual.kept_for, help="how long")
    parser.add_argument("--max-request-bytes", type=int, default=usual.request_bytes)
    parser.add_argument("--max-reply-bytes", type=int, default=usual.reply_bytes)
    parser.add_argument("--max-pushed-rows", type=int, default=usual.pushed_rows)
    parser.add_argument("--max-skew", type=float, default=SKEW / 1e6, help="seconds, of events")
    parser.add_argument(
        "--threads", type=int, default=usual.threads, choices=threads, metavar=f"1..{THREADS}"
    )


def main() -> int:
    """Serve until a signal comes; give the exit code."""
    given = _arguments()
    keep_freed()
    configure(as_json=given.log_json, worker=given.worker)
    url = os.environ.get(given.redis_url_env)
    if not url:
        sys.stderr.write(f"{given.redis_url_env}: not set; set it to Redis's URL\n")
        return 2
    # A queue, as an event would wait for itself where one signal comes upon another.
    ended = SimpleQueue[None]()
    for number in ENDING:
        signal.signal(number, lambda *_: ended.put(None))
    try:
        store = OnlineStore.connect(url, project=given.project, timeout=given.redis_timeout)
        server = _serve(given, store)
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return UNREACHABLE if isinstance(error, Unavailable) else 1
    announce(server.address)
    if given.worker is not None:
        threading.Thread(target=_until_alone, args=(ended,), daemon=True).start()
    # Two signals at once can leave Python's main thread asleep: so it looks now and then.
    while ended.empty():
        time.sleep(_LOOK)
    for number in ENDING:
        # Another one, also at the interpreter's very end, changes nothing: `grace` bounds it.
        signal.signal(number, signal.SIG_IGN)
    server.stop(given.grace)
    return 0


def _serve(given: argparse.Namespace, store: OnlineStore) -> Server:
    return serve(
        store,
        project=given.project,
        alias=given.alias,
        host=given.host,
        port=given.port,
        limits=Limits(
            rows=given.max_rows,
            outputs=given.max_features,
            keys=given.max_keys,
            cells=given.max_cells,
            calls=given.max_calls,
            kept_rows=given.cache_rows,
            kept_for=given.cache_seconds,
            request_bytes=given.max_request_bytes,
            reply_bytes=given.max_reply_bytes,
            pushed_rows=given.max_pushed_rows,
            skew=round(given.max_skew * 1e6),
            threads=given.threads,
        ),
        sink=queue,
        tls=certificates(given.tls_cert, given.tls_key, given.client_ca),
        access=callers(given.access),
        insecure=given.insecure,
        page=None if given.page is None else Page.shared(given.page),
        shared=given.worker is not None,
        slow=None if given.slow is None else given.slow / 1e3,
    )


def _until_alone(ended: SimpleQueue[None]) -> None:
    """End when whoever started this worker is gone, even if it was killed."""
    while os.read(0, 1):
        pass
    ended.put(None)


if __name__ == "__main__":
    sys.exit(main())
