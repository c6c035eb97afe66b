"""What a server says of itself: a line for a person or a JSON object; never a value, key or token.

A record's own words are its message; what a program wants of it comes as `extra=told(…)`.
"""

import json
import logging
import os
import sys
import time
from typing import Any

NAME = "featurestore.serving"


def told(event: str, **fields: Any) -> dict[str, Any]:
    """Give what a program reads of a record, as logging's `extra`."""
    return {"told": {"event": event, **fields}}


def announce(address: str) -> None:
    """Say on standard output where calls are answered; whoever does not listen misses it.

    A server whose reader has gone (`serve | head -1`) or whose disk is full serves on.
    """
    try:
        print(json.dumps({"address": address}), flush=True)  # noqa: T201 - stdout is the interface
    except OSError as error:
        # What was not written would be tried again at the end, and fail again.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        logging.getLogger(NAME).warning(
            "standard output: cannot be written: %s; serving all the same", error.strerror,
            extra=told("unheard", address=address),
        )  # fmt: skip


class Lines(logging.Formatter):
    """A record as one line for a person."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._worker = "" if worker is None else f"worker {worker}: "

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Put the worker's number before the message."""
        return f"{record.asctime} {self._worker}{record.message}"


class Objects(logging.Formatter):
    """A record as one JSON object on one line; times in UTC."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            **self._worker,
            **getattr(record, "told", {}),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(*, as_json: bool, worker: int | None = None) -> None:
    """Send this process's records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects(worker) if as_json else Lines(worker))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class Sampler:
    """Lets one record a `seconds` through, with how many came before it and were not told."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._next = 0.0
        self._untold = 0

    def take(self, now: float) -> int | None:
        """Give how many were passed over since the last, if it is time; else None."""
        if now < self._next:
            self._untold += 1
            return None
        self._next, untold, self._untold = now + self._seconds, self._untold, 0
        return untold
