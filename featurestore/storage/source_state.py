"""The state of a source: what tells that it may have changed, without reading a row."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from deltalake.exceptions import DeltaError

from featurestore.model.documents import Source
from featurestore.model.fingerprint import digest
from featurestore.storage.pushed import NONE, PushedLog
from featurestore.storage.remote import is_remote, objects, open_delta
from featurestore.storage.sources import locate, pattern

_TICK = 20_000_000
"""How long two changes of a file may bear the same time, nanoseconds: Linux counts in jiffies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What a source is at a moment: `name` differs between states, `version` is a Delta table's.

    A source that cannot say has no name.
    """

    name: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What a source's log is at a moment: its version (None: it has none), and its own name."""

    version: int | None = None
    name: str = ""

    def beside(self, source: str) -> str:
        """Name the state that a source and its log are in together."""
        if not source or self.version in (None, NONE):
            return source
        return f"p{self.version}:{digest('with pushed rows', source, self.name)[:40]}"


def log_state(log: PushedLog | None) -> LogState:
    """Give the state of a source's log, if rows can be pushed to it at all.

    Raises:
        SourceError, Unavailable: as the log says.
    """
    if log is None:
        return LogState()
    version, name = log.state()
    return LogState(version=version, name=name)


def source_state(source: Source, root: Path) -> SourceState:
    """Give the state of a source: a Delta table's id and version, or each file's size and times.

    A source that is not there has no name; reading it tells why. A file that changed just now is
    waited for, some milliseconds, so that its next change bears another time.
    """
    path = locate(source.path, root)
    try:
        if source.format == "delta":
            opened = open_delta(path)
            version = opened.version()
            name = digest("delta", str(opened.metadata().id))
            return SourceState(name=f"v{version}:{name[:40]}", version=version)
        if is_remote(path):
            return _of_remote_files(path)
        return _of_files(path, pattern(source.path, path, root))
    except (DeltaError, OSError):
        return SourceState()


def _of_remote_files(url: str) -> SourceState:
    """Name files at a URL by their places, sizes and ETags."""
    found = objects(url).files()
    parts = ((one.path, one.size, one.mark) for one in found)
    return SourceState(name=digest("remote files", *parts) if found else "")


def _of_files(path: str, matching: str) -> SourceState:
    """Name files by their places, sizes and times: content set back to an old time shows too."""
    there = Path(path).exists()
    places = [path] if there else glob(matching, recursive=True, include_hidden=True)  # noqa: PTH207
    found = sorted({file: Path(file).stat() for place in places for file in _files(place)}.items())
    last = max((stat.st_ctime_ns for _, stat in found), default=0)
    passed = time.time_ns() - last
    if not found or passed < 0:
        return SourceState()
    time.sleep(max(0, _TICK - passed) / 1e9)
    parts = (
        (os.path.relpath(file, path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        for file, stat in found
    )
    return SourceState(name=digest("files", *parts))


def _files(place: str) -> Iterator[str]:
    if not Path(place).is_dir():
        yield place
    seen: set[Path] = set()
    for folder, below, names in os.walk(place, followlinks=True):
        here = Path(folder).resolve()
        if here in seen:
            below.clear()
        else:
            yield from (str(Path(folder) / name) for name in names)
        seen.add(here)
