"""The schema of a source, read from its file or Delta table; no rows are read."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from featurestore.errors import SourceError
from featurestore.model.documents import Source


def read(source: Source, root: Path) -> Mapping[str, pl.DataType]:
    """Give the columns and dtypes of a source as they are stored, before any renaming.

    A relative path starts at `root`. A Parquet source is a file, a folder or a glob; of several
    files the first one's schema counts.

    Raises:
        SourceError: nothing is there, or it is not what the definition says.
    """
    location = locate(source.path, root)
    where = f"{source.name}.path"
    if source.format == "delta":
        if _is_local(location) and not (Path(location) / "_delta_log").is_dir():
            raise SourceError(
                f"{where}: no Delta table is at {location}; write it first, or correct the path"
            )
        return pl.scan_delta(location).collect_schema()
    if (Path(location) / "_delta_log").is_dir():
        raise SourceError(
            f"{where}: {location} is a Delta table, and reading it as Parquet would show deleted "
            "rows; set file_format=DeltaFormat()"
        )
    if _is_local(location) and not _is_there(Path(location)):
        raise SourceError(f"{where}: no file is at {location}; write it first, or correct the path")
    try:
        return pl.scan_parquet(location).collect_schema()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"{where}: {location} cannot be read as Parquet ({error}); write it again, or say what "
            "it is with file_format"
        ) from error


def locate(path: str, root: Path) -> str:
    """Give where a source lies: a URL as it is, a `file:` URL or path as an absolute path."""
    if path.startswith("file://"):
        return path.removeprefix("file://")
    return path if "://" in path else str(root / path)


def _is_local(location: str) -> bool:
    return "://" not in location


def _is_there(path: Path) -> bool:
    if any(sign in str(path) for sign in "*?["):
        return any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return path.is_file() or (path.is_dir() and any(path.glob("**/*.parquet")))
