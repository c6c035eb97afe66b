"""Data files of offline tables, and the checksums that prove them to be what was written."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a committed table version with the sha256 of its bytes."""

    path: str
    checksum: str


def data_file(uri: str) -> DataFile:
    """Give a data file with its checksum."""
    return DataFile(path=file_name(uri), checksum=checksum(uri))


def file_name(uri: str) -> str:
    """Give a data file's path inside its table: the partition's folder and the name."""
    return "/".join(uri.rsplit("/", 2)[-2:])


def checksum(uri: str) -> str:
    """Give the sha256 of a local file, nothing for one at a URL."""
    if "://" in uri:
        return ""
    with Path(uri).open("rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
