"""Damage of offline tables: what the libraries raise of it, as errors of the store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError
from polars.exceptions import PolarsError

from featurestore.errors import CorruptData, Unavailable
from featurestore.model.documents import Table, View

# A full disk comes as a DeltaError, told from damage by the system's number; 2 is a missing file.
_REFUSED = re.compile(r"\(os error (?!2\))")
_DRAWN = re.compile(r"\x1b\[[0-9;]*m|↳")


def damaged(view: View, what: str) -> CorruptData:
    """Give the error of a table that is not as it was written; the way out makes another one."""
    return CorruptData(
        f"{view.name}: {what}; with {view.version} applied run `featurestore backfill --again "
        f"--view {view.name}`, then `verify` and `promote`: that computes it again, beside it"
    )


@contextmanager
def reading(view: View, table: Table) -> Iterator[None]:
    """Turn what Delta, Polars and the file system raise in a block into `CorruptData`."""
    try:
        yield
    except (DeltaError, PolarsError, OSError) as error:
        gone = isinstance(error, FileNotFoundError) and error.filename
        what = f"{gone} is gone" if gone else f"table {table.id} cannot be read ({_told(error)})"
        raise damaged(view, what) from error


@contextmanager
def writing(view: View, table: Table) -> Iterator[None]:
    """Turn what a block raises into `CorruptData`, or `Unavailable` if it cannot be written now."""
    with reading(view, table):
        try:
            yield
        except (DeltaError, OSError) as error:
            if isinstance(error, DeltaError) and not _REFUSED.search(str(error)):
                raise
            raise Unavailable(
                f"{view.name}: table {table.id} cannot be written ({_told(error)}); mend that and "
                "run it again"
            ) from error


def _told(error: Exception) -> str:
    """Give an error in one line; delta-rs draws its causes in colour, and adds its stack."""
    return " ".join(_DRAWN.sub(" ", str(error)).partition("\n   0:")[0].split())
