"""Locks as calls carry them: read from a file, sent by id, kept by who answers."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from featurestore.errors import InvalidRequest, LockUnknown, NotFound
from featurestore.model.lock import Lock
from featurestore.model.pinned import admit

LOCK_BYTES = 1 << 20
_KEPT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LockReference:
    """A lock as a call names it: its id, and its document (JSON) unless the server has it."""

    id: str
    document: bytes = b""

    @staticmethod
    def of(lock: Lock) -> "LockReference":
        """Give the whole reference to a lock."""
        return LockReference(id=lock.id, document=lock.to_json().encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """A lock that may be answered; equal ids are equal locks."""

    id: str
    lock: Lock = field(compare=False, repr=False)


class Locks:
    """The latest locks of a project that calls brought; safe to share between threads."""

    def __init__(self, project: str, *, most: int = _KEPT) -> None:
        self._project = project
        self._most = most
        self._kept: OrderedDict[str, Pinned] = OrderedDict()
        self._mutex = threading.Lock()

    def find(self, asked: LockReference) -> Pinned:
        """Give the lock that a call names.

        Raises:
            LockUnknown: it came without its document and is not kept here.
            InvalidRequest: the document is no lock, not that of the id, a draft, or another
                project's.
        """
        with self._mutex:
            known = self._kept.get(asked.id)
            if known is not None:
                self._kept.move_to_end(asked.id)
                return known
        if not asked.document:
            raise LockUnknown(f"lock {asked.id[:12]}: is not known here; send its document")
        made = Pinned(id=asked.id, lock=self._read(asked))
        with self._mutex:
            self._kept[asked.id] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made

    def _read(self, asked: LockReference) -> Lock:
        if len(asked.document) > LOCK_BYTES:
            raise InvalidRequest(
                f"lock.document: has {len(asked.document)} bytes, at most {LOCK_BYTES} are taken; "
                "lock fewer features"
            )
        lock, digest = _parsed(asked.document, "lock.document")
        if digest != asked.id:
            raise InvalidRequest(
                f"lock.id: is {asked.id[:12]!r}, but the document's is {digest[:12]!r}: it was "
                "changed, or written by another version of the store"
            )
        return admit(lock, project=self._project)


def read_lock(given: Lock | str | Path) -> Lock:
    """Give a lock, or read one from the path of its JSON.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: the file cannot be read, or holds no lock.
    """
    if isinstance(given, Lock):
        return given
    if not isinstance(given, str | Path):
        raise InvalidRequest(
            f"lock: {type(given).__name__} is no lock; pass one, or the path of its JSON"
        )
    try:
        text = Path(given).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(
            f"lock: there is no file {str(given)!r}; write one with "
            "`Path(…).write_text(training_set.lock.to_json())`"
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"lock: {str(given)!r} cannot be read: {error}") from error
    return _parsed(text, f"lock: {str(given)!r}")[0]


def _parsed(text: bytes, path: str) -> tuple[Lock, str]:
    """Give a lock and its id."""
    try:
        lock = Lock.from_json(text)
        lock.to_json().encode()  # half a character passes JSON, and nothing after it
        digest = lock.id
    except (ValueError, ExceptionGroup, RecursionError) as error:
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InvalidRequest(
            f"{path} is no lock ({told}); pass what `training_set.lock.to_json()` gave"
        ) from error
    return lock, digest
