"""Files that a server reads again when they change: its certificates, and who may ask.

What cannot be read never opens a server, nor closes it: what was read before stays in force.
"""

import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

from featurestore.errors import InvalidRequest
from featurestore.serving.process.access import Access, read_access
from featurestore.serving.process.listening import Tls, read_tls
from featurestore.serving.process.log import NAME, told

_LOG = logging.getLogger(NAME)

T = TypeVar("T")


class Reread(Generic[T]):
    """What some files say, as of the last `look` at which they could be read: `now`.

    It is read when this is made, which fails as `read` does. Of no files it stays the same.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T]) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._seen = self._content()
        self.now = read()

    @classmethod
    def fixed(cls, value: T) -> "Reread[T]":
        """Give what no file says."""
        return cls((), lambda: value)

    def look(self) -> None:
        """Read the files again if their content changed; tell what cannot be read, and keep."""
        seen = self._content()
        if seen == self._seen:
            return
        trouble: Exception | None = None
        try:
            found = self._read()
        except (InvalidRequest, OSError) as error:
            trouble = error
        if self._content() != seen:
            return  # They are being written: the next look finds them whole.
        self._seen = seen
        names = ", ".join(map(str, self._paths))
        if trouble is None:
            self.now = found
            _LOG.info("%s: changed, and in force now", names, extra=told("reread", files=names))
        else:
            _LOG.error(
                "%s: changed, and cannot be used: %s; what was read before stays in force",
                names, trouble, extra=told("reread_failed", files=names),
            )  # fmt: skip

    def _content(self) -> tuple[bytes | None, ...]:
        return tuple(map(_digest, self._paths))


def certificates(cert: Path | None, key: Path | None, client_ca: Path | None) -> Reread[Tls] | None:
    """Give a server's certificates by their files; None if there are none. See `read_tls`."""
    first = read_tls(cert, key, client_ca)
    if first is None:
        return None
    paths = [path for path in (cert, key, client_ca) if path is not None]
    return Reread(paths, lambda: read_tls(cert, key, client_ca) or first)


def callers(path: Path | None) -> Reread[Access] | None:
    """Give who may ask by its file; None if there is none. See `read_access`."""
    return None if path is None else Reread([path], lambda: read_access(path))


def _digest(path: Path) -> bytes | None:
    try:
        return sha256(path.read_bytes()).digest()
    except OSError:
        return None
