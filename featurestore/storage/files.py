"""Data files of offline tables, and the checksums that prove them to be what was written."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from featurestore.storage.remote import AT_ONCE, is_remote, objects

_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a committed table version with the sha256 of its bytes."""

    path: str
    checksum: str


def data_files(uris: Sequence[str]) -> tuple[DataFile, ...]:
    """Give data files with their checksums."""
    found = zip(uris, checksums(uris), strict=True)
    return tuple(DataFile(path=file_name(uri), checksum=checksum) for uri, checksum in found)


def file_name(uri: str) -> str:
    """Give a data file's path inside its table: the partition's folder and the name."""
    return "/".join(uri.rsplit("/", 2)[-2:])


def below(folder: str) -> frozenset[str]:
    """Give the paths of the files below a folder or URL, as they are inside it."""
    if is_remote(folder):
        return frozenset(objects(folder).below())
    found = (file.relative_to(folder) for file in Path(folder).rglob("*"))
    return frozenset(file.as_posix() for file in found)


def reader(uri: str) -> IO[bytes]:
    """Open the file at a path or URL for reading.

    Raises:
        OSError: it is not there, or cannot be reached.
    """
    return objects(uri).open() if is_remote(uri) else Path(uri).open("rb")


def checksums(uris: Sequence[str]) -> list[str]:
    """Give the sha256 of the files at some paths or URLs; those at URLs are read at once."""
    if not any(map(is_remote, uris)):
        return [_checksum(uri) for uri in uris]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_checksum, uris))


def _checksum(uri: str) -> str:
    digest = sha256()
    with reader(uri) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
