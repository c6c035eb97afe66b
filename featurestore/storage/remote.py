"""Object stores (`s3://`, `gs://`, `az://`): their URLs and the files below them.

Where the store is and who asks is read from the environment by the libraries themselves:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
… No secret passes through here, so none can end in a document, a log or an error.

A URL's key is written as it is: `s3://bucket/a b/#1` means the key `a b/#1`, and a percent sign is
a percent sign. Polars reads it so; delta-rs takes it for an encoded URL, and gets one.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from urllib.parse import quote, unquote

from deltalake import DeltaTable
from deltalake.fs import DeltaStorageHandler
from pyarrow import NativeFile, fs

SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""The object stores that Polars and delta-rs read."""

_PASSWORD = re.compile(r"[^/:]*://[^/@]*:[^/@]*@")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_S3 = ("s3", "s3a")
AT_ONCE = 16
"""How many files are asked for at a time: each answer takes its time to come."""

# What object stores answer stands behind the request's line, as XML that may quote the request with
# its key and token; delta-rs draws its causes in colour, and adds its stack.
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|↳")
_BODY = re.compile(r"<\?xml|<Error>|<html|\{\"error\"", re.IGNORECASE)
_ANSWER = re.compile(r"<(Code|Message)>(.*?)</\1>", re.DOTALL)
_UNREACHED = re.compile(r"Error performing |AWS Error ")
_ABSENT = re.compile(r"NoSuchKey|404 Not Found(?!.*NoSuchBucket)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file below a URL: its path there, and what changes when it is written again.

    `mark` is the ETag where the store gives one that can be asked for, else the time of the last
    change, UTC nanoseconds: stores count in seconds.
    """

    path: str
    size: int
    mark: str


def is_remote(path: str) -> bool:
    """Say whether a path is a URL."""
    return "://" in path


def refusal(url: str) -> str | None:
    """Give `reason; way out` if a URL is none that the store opens, else None."""
    scheme = url.partition(":")[0]
    if scheme not in SCHEMES:
        return f"cannot read {scheme}:// URLs; supported are {', '.join(sorted(SCHEMES))}"
    if _PASSWORD.match(url):
        return "a URL keeps no password; take it out, and set it in the environment"
    return None


def shown(url: str) -> str:
    """Give a URL without the password that somebody wrote into it."""
    return _PASSWORD.sub(f"{url.partition(':')[0]}://", url)


def told(error: BaseException) -> str:
    """Give an error of a library in one line, without what may quote the request."""
    text = _DRAWN.sub(" ", str(error)).partition("\n   0:")[0]
    line, *body = _BODY.split(text, maxsplit=1)
    answer = [found[2] for found in _ANSWER.finditer(text)] if body else []
    return " ".join(" ".join([line, *answer]).split()).removesuffix(":")


def cause(error: BaseException) -> BaseException | None:
    """Give an error to raise another one from, or None: its text may quote a key or token."""
    return None if _BODY.search(str(error)) else error


def is_unreached(error: BaseException) -> bool:
    """Say whether an object store failed or refused to answer; a missing file is an answer."""
    return bool(_UNREACHED.search(str(error))) and not _ABSENT.search(str(error))


def delta_place(path: str) -> str:
    """Give a table's folder or URL as delta-rs wants it: a URL's key percent-encoded."""
    if not is_remote(path):
        return path
    scheme, bucket, key = _split(path)
    return f"{'gs' if scheme == 'gcs' else scheme}://{bucket}/{quote(key)}"


def delta_options(path: str) -> dict[str, str] | None:
    """Give the options of delta-rs: unlike Polars, it needs leave to speak plain HTTP."""
    return {"allow_http": "true"} if is_remote(path) and _plain_http() else None


def open_delta(path: str, version: int | None = None) -> DeltaTable:
    """Open the Delta table in a folder or at a URL, at a version (None: the newest).

    Raises:
        TableNotFoundError, DeltaError, OSError: as delta-rs does.
    """
    return DeltaTable(delta_place(path), version=version, storage_options=delta_options(path))


def delta_files(opened: DeltaTable) -> list[str]:
    """Give a table's data files as paths or URLs; delta-rs gives them percent-encoded."""
    return [unquote(file) for file in opened.file_uris()]


def is_file(url: str) -> bool:
    """Say whether a file, not a folder, lies at a URL.

    Raises:
        OSError: the store cannot be reached, or refuses.
    """
    store, key = _store(url)
    return bool(key) and store.get_file_info(key).type == fs.FileType.File


def is_folder(url: str) -> bool:
    """Say whether files lie below a URL.

    Raises:
        OSError: the store cannot be reached, or refuses.
    """
    store, key = _store(url)
    return bool(store.get_file_info(key.rstrip("/")).type == fs.FileType.Directory)


def open_file(url: str) -> NativeFile:
    """Open the file at a URL for reading, from its beginning on.

    Raises:
        FileNotFoundError: it is not there.
        OSError: the store cannot be reached, or refuses.
    """
    scheme, bucket, key = _split(url)
    if scheme in _S3:
        return _s3().open_input_stream(f"{bucket}/{key}")
    return _store(url)[0].open_input_stream(key)


def remove(url: str) -> None:
    """Remove all files below a URL, and none beside; what is not there stays so.

    Raises:
        OSError: the store cannot be reached, or refuses.
    """
    store, key = _store(url)
    store.delete_dir(key.rstrip("/"))


def files(url: str) -> tuple[RemoteFile, ...]:
    """List the file at a URL, those below it or (a glob) those that match, by path.

    A pattern's star may match a slash here: rather one file too many than one too few.

    Raises:
        OSError: the store cannot be reached, or refuses.
    """
    scheme, bucket, _ = _split(url)
    store, key = _store(url)
    there = store.get_file_info(key.rstrip("/")) if key else None
    if there is not None and there.type == fs.FileType.File:
        found = [there]
    elif has_magic(key) and (there is None or there.type == fs.FileType.NotFound):
        within = re.split(r"[*?[]", key, maxsplit=1)[0].rpartition("/")[0]
        pattern = key.replace("**/", "*")
        found = [one for one in _below(store, within) if fnmatchcase(one.path, pattern)]
    else:
        found = _below(store, key.rstrip("/"))
    found.sort(key=lambda one: one.path)
    marks = _etags(bucket, found) if scheme in _S3 else [str(one.mtime_ns) for one in found]
    return tuple(
        RemoteFile(path=one.path, size=one.size, mark=mark)
        for one, mark in zip(found, marks, strict=True)
    )


def _split(url: str) -> tuple[str, str, str]:
    """Give a URL's scheme, bucket and key."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def _store(url: str) -> tuple[fs.FileSystem, str]:
    """Give the files of a URL's bucket, as delta-rs reaches them, and the URL's key."""
    _, _, key = _split(url)
    bucket = delta_place(url[: len(url) - len(key)])
    return fs.PyFileSystem(DeltaStorageHandler(bucket, delta_options(url))), key


def _below(store: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    found = store.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True))
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
        endpoint_override=_endpoint(),
        anonymous=environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"),
    )


def _endpoint() -> str | None:
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)


def _plain_http() -> bool:
    return (_endpoint() or "").startswith("http://")
