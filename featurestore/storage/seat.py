"""Names that one process of this machine has at a time, and the next one when it is dead."""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TextIO

from featurestore.errors import InvalidRequest


@contextmanager
def seat(folder: Path) -> Iterator[str]:
    """Hold the first name that no living process holds: this machine's, and a number.

    Raises:
        InvalidRequest: the folder cannot be written to.
    """
    host = socket.gethostname()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name, lock = next(
            (name, lock)
            for name in (f"{host}-{number}" for number in count(1))
            if (lock := _locked(folder / name)) is not None
        )
    except OSError as error:
        raise InvalidRequest(
            f"{folder}: cannot be written to ({error.strerror}); name the consumer with --consumer"
        ) from error
    with lock:
        yield name


def _locked(path: Path) -> TextIO | None:
    """Open a file that no other process holds; None if one does. The lock goes with the process."""
    held = path.open("a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    return held
