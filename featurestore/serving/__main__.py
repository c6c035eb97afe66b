"""One serving process: `python -m featurestore.serving --project demo --port 6566`.

Redis is named by an environment variable, so that its password shows in no process list. Prints
one JSON line, `{"address": …}`, when it listens; SIGTERM and SIGINT end it gracefully.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading

from featurestore.errors import FeatureStoreError, Unavailable
from featurestore.model.pushes import SKEW
from featurestore.serving.limits import Limits
from featurestore.serving.memory import keep_freed
from featurestore.serving.queue import queue
from featurestore.serving.server import serve
from featurestore.storage.redis import OnlineStore

URL = "FEATURESTORE_REDIS_URL"
UNREACHABLE = 6
"""The exit code the command line documents for what cannot be reached, or bound."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m featurestore.serving")
    parser.add_argument("--project", required=True)
    parser.add_argument("--alias", default="prod")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--redis-url-env", default=URL, help="the variable that holds Redis's URL")
    parser.add_argument("--max-rows", type=int, default=Limits().rows, help="rows a call may ask")
    parser.add_argument("--max-pushed-rows", type=int, default=Limits().pushed_rows)
    parser.add_argument("--max-skew", type=float, default=SKEW / 1e6, help="seconds, of events")
    parser.add_argument("--threads", type=int, default=Limits().threads)
    parser.add_argument("--redis-timeout", type=float, default=0.5, help="seconds, a wait")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for calls to end")
    return parser.parse_args()


def main() -> int:
    """Serve until a signal comes; give the exit code."""
    given = _arguments()
    keep_freed()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    url = os.environ.get(given.redis_url_env)
    if not url:
        sys.stderr.write(f"{given.redis_url_env}: not set; set it to Redis's URL\n")
        return 2
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        store = OnlineStore.connect(url, project=given.project, timeout=given.redis_timeout)
        server = serve(
            store,
            project=given.project,
            alias=given.alias,
            host=given.host,
            port=given.port,
            limits=Limits(
                rows=given.max_rows,
                pushed_rows=given.max_pushed_rows,
                skew=round(given.max_skew * 1e6),
                threads=given.threads,
            ),
            sink=queue(store),
        )
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return UNREACHABLE if isinstance(error, Unavailable) else 1
    sys.stdout.write(json.dumps({"address": server.address}) + "\n")
    sys.stdout.flush()
    ended.wait()
    server.stop(given.grace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
