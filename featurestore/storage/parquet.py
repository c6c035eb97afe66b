"""Writing one Parquet file piece by piece: whole, or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from polars.io.plugins import register_io_source

from featurestore.errors import InvalidRequest, Unavailable

_NAMED = 40
"""Characters of a file's name that the folder beside it bears: names end at 255 bytes."""


def write_parquet(
    path: str | os.PathLike[str],
    frames: Callable[[], Iterator[pl.DataFrame]],
    schema: pl.Schema,
    metadata: Mapping[str, str],
    *,
    where: str,
) -> None:
    """Write frames of one schema under each other, holding a few of them at a time.

    The file appears under its name when it is whole; what stood there is replaced. `metadata` goes
    into the file's key-value metadata; `where` is the dotted path that errors name.

    Raises:
        InvalidRequest: the folder is not there, or the path is a folder, a device or a URL.
        Unavailable: the file cannot be written, on a full disk for one.
    """
    target = target_of(path, where)

    def source(
        columns: list[str] | None, _: pl.Expr | None, rows: int | None, __: int | None
    ) -> Iterator[pl.DataFrame]:
        assert rows is None
        yield from (frame if columns is None else frame.select(columns) for frame in frames())

    # In a folder of this call alone: two may write to one path, and a sink that is interrupted
    # may make its file after all, when it is too late to remove it (Polars 2.1).
    with folder_beside(target, where) as folder, writing_file(target, where):
        unfinished = Path(folder) / "rows"
        register_io_source(source, schema=schema).sink_parquet(
            unfinished, metadata=dict(metadata), maintain_order=True
        )
        unfinished.replace(target)


def folder_beside(target: Path, where: str) -> TemporaryDirectory[str]:
    """Make a folder beside a file that is to be written, which is gone when it is left.

    Raises:
        Unavailable: the folder cannot be made.
    """
    prefix = f".{target.name[:_NAMED]}."
    with writing_file(target, where):
        return TemporaryDirectory(prefix=prefix, dir=target.parent, ignore_cleanup_errors=True)


@contextmanager
def writing_file(target: Path, where: str) -> Iterator[None]:
    """Turn what a block that writes a local file raises into `Unavailable`."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        told = str(error).rstrip(".")
        raise Unavailable(f"{where}: {target} cannot be written: {told}; mend that") from error


def target_of(path: str | os.PathLike[str], where: str) -> Path:
    """Give the local file that a path names, in a folder that is there.

    Raises:
        InvalidRequest: the folder is not there, or the path is a folder, a device or a URL.
    """
    if "://" in os.fspath(path):
        raise InvalidRequest(f"{where}: {path} is a URL; write a local file and copy it there")
    target = Path(path)
    if not target.parent.is_dir():
        raise InvalidRequest(f"{where}: the folder {target.parent} is not there; make it first")
    if target.is_dir():
        raise InvalidRequest(f"{where}: {target} is a folder; name a file in it")
    if target.exists() and not target.is_file():
        raise InvalidRequest(f"{where}: {target} is a device or a pipe; name a file")
    return target
