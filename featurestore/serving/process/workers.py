"""Several serving processes on one port.

    python -m featurestore.serving.process.workers --workers 4 …

What it does not know it hands on to each `python -m featurestore.serving`. It starts them before
anything of gRPC exists, starts one that dies again, adds their numbers up for Prometheus, and ends
them all on SIGTERM or SIGINT. It needs the standard library alone: nothing that a worker does can
end it.
"""

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from queue import SimpleQueue
from socketserver import ThreadingTCPServer
from typing import IO

from featurestore.errors import FeatureStoreError, Unavailable
from featurestore.serving.process.listening import (
    ENDING,
    address_of,
    cannot_listen,
    check_public,
    reserve,
)
from featurestore.serving.process.log import NAME, announce, configure, told
from featurestore.serving.process.metrics import BYTES, READY, Page, render

_LOG = logging.getLogger(NAME)
UNREACHABLE = 6
_ATTEMPTS = 5
"""Starts in a row that may fail, while no other worker serves, before all ends."""
_BACKOFF, _LONGEST = 0.1, 5.0
_SETTLED = 10.0
"""Seconds after which a worker that dies is started again as soon as the first time."""
_OVERTIME = 2.0
"""Seconds that a worker gets beyond the grace before it is killed."""


class Worker:
    """One worker, started again whenever it dies, by a thread of its own."""

    def __init__(self, number: int, command: Sequence[str], crew: "Crew") -> None:
        self.number = number
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="featurestore-worker-")  # noqa: SIM115
        self.file.truncate(BYTES)
        self.page = Page.shared(self.file.fileno())
        self.restarts = 0
        self.serving = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"worker-{number}", daemon=True)
        self._page_number = str(self.file.fileno())
        self._command = (*command, "--worker", str(number), "--page", self._page_number)
        self._crew = crew
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if there is one."""
        with self._mutex:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(number)

    def _start(self) -> "subprocess.Popen[str] | None":
        with self._mutex:
            if self._crew.ending.is_set():
                return None
            # A session of its own: Ctrl-C comes to us, and we tell it. Its standard input ends
            # when we do, however that happens.
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self.file.fileno(),),
                start_new_session=True,
                text=True,
            )
            return self._process

    def _run(self) -> None:
        failed, wait = 0, _BACKOFF
        while not self._crew.ending.is_set():
            began = time.monotonic()
            try:
                process = self._start()
            except OSError as error:
                _LOG.warning("worker %d: cannot be started: %s", self.number, error.strerror)
                process, code, served = None, 1, False
            else:
                if process is None:
                    return
                code, served = self._watch(process)
            if self._crew.ending.is_set():
                return
            failed = 0 if served else failed + 1
            wait = _BACKOFF if time.monotonic() - began > _SETTLED else min(wait * 2, _LONGEST)
            if self._crew.hopeless(self, code, failed):
                return
            self.restarts += 1
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            _LOG.warning(
                "worker %d: died (%s); started again in %g s", self.number, how, wait,
                extra=told("worker_died", worker=self.number, code=code, wait=wait),
            )  # fmt: skip
            self._crew.ending.wait(wait)

    def _watch(self, process: "subprocess.Popen[str]") -> tuple[int, bool]:
        """Wait until a process ends; give its exit code, and whether it listened before."""
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            line = process.stdout.readline()
            if line:
                self.serving.set()
                self._crew.listens(self, process.pid)
            code = process.wait()
        self.serving.clear()
        self.page.header[READY] = 0
        return code, bool(line)


class Crew:
    """All workers of a port, and why they end."""

    def __init__(self, count: int, command: Sequence[str], address: str) -> None:
        self.ending = threading.Event()
        self.code = 0
        self._address = address
        self._told = False
        self._mutex = threading.Lock()
        self.workers = [Worker(number, command, self) for number in range(count)]

    def start(self) -> None:
        """Start all workers."""
        for worker in self.workers:
            worker.thread.start()

    def listens(self, worker: Worker, pid: int) -> None:
        """Note that a worker listens; once all do, say where."""
        _LOG.info(
            "worker %d: listens, process %d", worker.number, pid,
            extra=told("worker_listens", worker=worker.number, pid=pid),
        )  # fmt: skip
        with self._mutex:
            if self._told or not all(one.serving.is_set() for one in self.workers):
                return
            self._told = True
        announce(self._address)

    def hopeless(self, worker: Worker, code: int, failed: int) -> bool:
        """Say whether to give up, which ends all: nobody serves, and starts fail again and again.

        A worker that says no (it was not killed) before it ever listened would say no for ever.
        """
        refused = failed and code > 0 and not self._told
        spent = failed >= _ATTEMPTS and not any(one.serving.is_set() for one in self.workers)
        if not (refused or spent):
            return False
        with self._mutex:
            if not self.ending.is_set():
                self.code = code if code > 0 else 1
        _LOG.error(
            "worker %d: cannot be started (exit code %d); all end", worker.number, code,
            extra=told("worker_refused", worker=worker.number, code=code),
        )  # fmt: skip
        self.ending.set()
        return True

    def end(self, grace: float) -> None:
        """Let all workers end their calls, and kill those that take longer than that."""
        self.ending.set()
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        until = time.monotonic() + grace + _OVERTIME
        for worker in self.workers:
            worker.thread.join(max(until - time.monotonic(), 0))
        for worker in self.workers:
            if worker.thread.is_alive():
                _LOG.warning("worker %d: did not end; killed", worker.number)
                worker.signal(signal.SIGKILL)
                worker.thread.join()

    def metrics(self) -> str:
        """Give the metrics of all workers."""
        pages = {worker.number: worker.page for worker in self.workers}
        return render(pages, sum(worker.restarts for worker in self.workers))


class Endpoint(ThreadingTCPServer):
    """Answers `GET /metrics`, in threads of its own."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, host: str, port: int, crew: Crew) -> None:
        class Answer(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                found = self.path.partition("?")[0] == "/metrics"
                body = crew.metrics().encode() if found else b"see /metrics\n"
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing of who reads."""

        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host.strip("[]"), port), Answer)
        except (OSError, UnicodeError) as error:
            raise cannot_listen(host, port) from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a reader that hung up."""


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m featurestore.serving.process.workers", allow_abbrev=False
    )
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--metrics", help="HOST:PORT, or a port of loopback; 0 picks a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for calls to end")
    parser.add_argument("--log-json", action="store_true")
    given, handed_on = parser.parse_known_args()
    if not 1 <= given.workers <= 1_024:
        parser.error("--workers: give 1 to 1024")
    return given, handed_on


def main() -> int:
    """Serve until a signal comes; give the exit code."""
    given, handed_on = _arguments()
    configure(as_json=given.log_json)
    # A queue, as an event would wait for itself where one signal comes upon another.
    stop = SimpleQueue[None]()
    for number in ENDING:
        signal.signal(number, lambda *_: stop.put(None))
    try:
        sure = any(one.startswith("--tls-cert") for one in handed_on)
        check_public(given.host, tls=sure, insecure="--insecure" in handed_on)
        with reserve(given.host, given.port) as port:
            return _run(given, handed_on, port, stop)
    except FeatureStoreError as error:
        sys.stderr.write(f"error: {error}\n")
        return UNREACHABLE if isinstance(error, Unavailable) else 1


def _run(
    given: argparse.Namespace, handed_on: Sequence[str], port: int, stop: SimpleQueue[None]
) -> int:
    command = [sys.executable, "-m", "featurestore.serving", *handed_on]
    command += ["--host", given.host, "--port", str(port), "--grace", str(given.grace)]
    command += ["--log-json"] if given.log_json else []
    crew = Crew(given.workers, command, f"{given.host}:{port}")
    if given.metrics is not None:
        endpoint = Endpoint(*address_of(given.metrics, "--metrics"), crew)
        threading.Thread(target=endpoint.serve_forever, daemon=True).start()
        host, bound = endpoint.server_address[:2]
        where = f"http://{host!s}:{bound}/metrics"
        _LOG.info("metrics at %s", where, extra=told("metrics", url=where))
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    crew.start()
    while stop.empty() and not crew.ending.wait(0.1):
        pass
    _LOG.info("stopping all workers", extra=told("stop_all"))
    crew.end(given.grace)
    return crew.code


if __name__ == "__main__":
    sys.exit(main())
