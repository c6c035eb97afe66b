"""Writing one Parquet file piece by piece: whole, or not at all."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from featurestore.errors import InvalidRequest, Unavailable


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
        InvalidRequest: the folder is not there, or the path is a folder or a URL.
        Unavailable: the file cannot be written, on a full disk for one.
    """
    target = target_of(path, where)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")

    def source(
        columns: list[str] | None, _: pl.Expr | None, rows: int | None, __: int | None
    ) -> Iterator[pl.DataFrame]:
        assert rows is None
        yield from (frame if columns is None else frame.select(columns) for frame in frames())

    try:
        with writing_file(target, where):
            register_io_source(source, schema=schema).sink_parquet(
                unfinished, metadata=dict(metadata), maintain_order=True
            )
            unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def writing_file(target: Path, where: str) -> Iterator[None]:
    """Turn what a block that writes a local file raises into `Unavailable`."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Unavailable(f"{where}: {target} cannot be written: {error}; mend that") from error


def target_of(path: str | os.PathLike[str], where: str) -> Path:
    """Give the local file that a path names, in a folder that is there.

    Raises:
        InvalidRequest: the folder is not there, or the path is a folder or a URL.
    """
    if "://" in os.fspath(path):
        raise InvalidRequest(f"{where}: {path} is a URL; write a local file and copy it there")
    target = Path(path)
    if not target.parent.is_dir():
        raise InvalidRequest(f"{where}: the folder {target.parent} is not there; make it first")
    if target.is_dir():
        raise InvalidRequest(f"{where}: {target} is a folder; name a file in it")
    return target
