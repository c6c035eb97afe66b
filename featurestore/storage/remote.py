"""Object stores (`s3://`, `gs://`, `az://`): their URLs and the files below them.

Where the store is and who asks is read from the environment by the libraries themselves:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`,
… No secret passes through here, so none can end in a document, a log or an error.

A URL's key is written as it is: `s3://bucket/a b/#1` means the key `a b/#1`, and a percent sign is
a percent sign. Polars reads it so; delta-rs takes it for an encoded URL, and gets one.
"""

import os
import re
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from deltalake import DeltaTable

if TYPE_CHECKING:
    from featurestore.storage.objects import Objects

SCHEMES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""The object stores that Polars and delta-rs read."""

AT_ONCE = 16
"""How many files are asked for at a time: each answer takes its time to come."""

# A secret key may have slashes in it.
_PASSWORD = re.compile(r"[^/:]*://[^/@]*:[^@]*@")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
# What object stores answer stands behind the request's line, as XML that may quote the request with
# its key and token; delta-rs draws its causes in colour, and adds its stack.
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|↳")
_BODY = re.compile(r"<\?xml|<Error>|<html|\{\"error\"", re.IGNORECASE)
_ANSWER = re.compile(r"<(Code|Message)>(.*?)</\1>", re.DOTALL)
_UNREACHED = re.compile(r"Error performing |AWS Error ")
_ABSENT = re.compile(r"NoSuchKey|404 Not Found(?!.*NoSuchBucket)", re.DOTALL)


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
    scheme, bucket, key = split(path)
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


def objects(url: str) -> "Objects":
    """Give the files at a URL; who has none does without pyarrow, which takes its time to load."""
    made: Objects = import_module("featurestore.storage.objects").Objects(url)
    return made


def split(url: str) -> tuple[str, str, str]:
    """Give a URL's scheme, bucket and key."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def endpoint() -> str | None:
    """Give where S3 is, if the environment says that it is not Amazon's."""
    return next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)


def _plain_http() -> bool:
    return (endpoint() or "").startswith("http://")
