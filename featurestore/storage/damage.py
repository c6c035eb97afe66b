"""Damage of offline tables: what the libraries raise of it, as errors of the store."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import DeltaError
from polars.exceptions import PolarsError

from featurestore.errors import CorruptData, Unavailable
from featurestore.model.documents import Table, View
from featurestore.storage.remote import cause, is_unreached, told

# A full disk comes as a DeltaError, told from damage by the system's number; 2 is a missing file.
_REFUSED = re.compile(r"\(os error (?!2\))")


def damaged(view: View, what: str) -> CorruptData:
    """Give the error of a table that is not as it was written; the way out makes another one."""
    return CorruptData(
        f"{view.name}: {what}; with {view.version} applied run `featurestore backfill --again "
        f"--view {view.name}`, then `verify` and `promote`: that computes it again, beside it"
    )


@contextmanager
def reading(view: View, table: Table) -> Iterator[None]:
    """Turn what Delta, Polars and the file system raise in a block into `CorruptData`.

    An object store that does not answer, or refuses, is `Unavailable`.
    """
    try:
        yield
    except (DeltaError, PolarsError, OSError) as error:
        if is_unreached(error):
            raise Unavailable(
                f"{view.name}: table {table.id} cannot be reached ({told(error)}); see that the "
                "object store answers, and that the environment says where it is and who asks"
            ) from cause(error)
        gone = isinstance(error, FileNotFoundError) and error.filename
        what = f"{gone} is gone" if gone else f"table {table.id} cannot be read ({told(error)})"
        raise damaged(view, what) from cause(error)


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
                f"{view.name}: table {table.id} cannot be written ({told(error)}); mend that and "
                "run it again"
            ) from cause(error)
