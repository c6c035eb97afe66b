"""The files of object stores: asked for, listed, read and removed.

Their clients take their time to load: only `remote.objects` loads this module.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic

from deltalake.fs import DeltaStorageHandler
from pyarrow import NativeFile, fs

from featurestore.storage.remote import AT_ONCE, delta_options, delta_place, endpoint, split

_S3 = ("s3", "s3a")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file below a URL: its path there, and what changes when it is written again.

    `mark` is the ETag where the store gives one that can be asked for, else the time of the last
    change, UTC nanoseconds: stores count in seconds.
    """

    path: str
    size: int
    mark: str


class Objects:
    """The file at a URL, or the files below it.

    Raises:
        OSError: from each method: the store cannot be reached, or refuses.
    """

    def __init__(self, url: str) -> None:
        self._scheme, self._bucket, self._key = split(url)
        bucket = delta_place(url[: len(url) - len(self._key)])
        self._store = fs.PyFileSystem(DeltaStorageHandler(bucket, delta_options(url)))

    def is_file(self) -> bool:
        """Say whether a file, not a folder, lies there."""
        return bool(self._type() == fs.FileType.File)

    def is_folder(self) -> bool:
        """Say whether files lie below."""
        return bool(self._type() == fs.FileType.Directory)

    def open(self) -> NativeFile:
        """Open the file for reading, from its beginning on.

        Raises:
            FileNotFoundError: it is not there.
        """
        if self._scheme in _S3:
            return _s3().open_input_stream(f"{self._bucket}/{self._key}")
        return self._store.open_input_stream(self._key)

    def remove(self) -> None:
        """Remove all files below, and none beside; what is not there stays so."""
        self._store.delete_dir(self._key.rstrip("/"))

    def below(self) -> list[str]:
        """Give the paths of the files below, as they are inside the folder."""
        folder = self._key.rstrip("/")
        return [one.path.removeprefix(f"{folder}/") for one in self._below(folder)]

    def files(self) -> tuple[RemoteFile, ...]:
        """List the file, those below or (a glob) those that match, by path.

        A pattern's star may match a slash here: rather one file too many than one too few.
        """
        found = sorted(self._matching(), key=lambda one: one.path)
        marks = (
            _etags(self._bucket, found)
            if self._scheme in _S3
            else [str(one.mtime_ns) for one in found]
        )
        return tuple(
            RemoteFile(path=one.path, size=one.size, mark=mark)
            for one, mark in zip(found, marks, strict=True)
        )

    def _type(self) -> fs.FileType:
        return self._info().type if self._key else fs.FileType.Directory

    def _info(self) -> fs.FileInfo:
        return self._store.get_file_info(self._key.rstrip("/"))

    def _matching(self) -> list[fs.FileInfo]:
        kind = self._type()
        if kind == fs.FileType.File:
            return [self._info()]
        if kind == fs.FileType.NotFound and has_magic(self._key):
            within = re.split(r"[*?[]", self._key, maxsplit=1)[0].rpartition("/")[0]
            pattern = self._key.replace("**/", "*")
            return [one for one in self._below(within) if fnmatchcase(one.path, pattern)]
        return self._below(self._key.rstrip("/"))

    def _below(self, folder: str) -> list[fs.FileInfo]:
        chosen = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        found = self._store.get_file_info(chosen)
        return [one for one in found if one.type == fs.FileType.File]


def _etags(bucket: str, found: Sequence[fs.FileInfo]) -> list[str]:
    """Ask for each file's ETag: the time of a change counts in seconds, two may share one."""
    store = _s3()

    def etag(one: fs.FileInfo) -> str:
        with store.open_input_file(f"{bucket}/{one.path}") as file:
            return str(file.metadata()["ETag"], "ascii")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(etag, found))


def _s3() -> fs.S3FileSystem:
    """Give pyarrow's own client: delta-rs's holds up all threads, and knows no ETags (measured)."""
    environ = os.environ
    return fs.S3FileSystem(
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),
        endpoint_override=endpoint(),
        anonymous=environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"),
    )
