"""A progress bar for long joins, where somebody looks: pieces done, rows per second, memory."""

import mmap
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

_PATIENCE = 2.0
"""Seconds that a join may take before its bar is shown."""
_STATUS = Path("/proc/self/statm")


@contextmanager
def progress(
    rows: int, *, shown: bool | None = None, out: TextIO | None = None
) -> Iterator[Callable[[int, int, int], None]]:
    """Show how far a join is, by bucket; what it gives is called as pieces are done.

    That is with how many of how many pieces are done, and the entity rows of the last one.

    Args:
        rows: the entity rows to answer, over all lookups.
        shown: whether to show it; by default if the terminal or the notebook can.
        out: where to show it.
    """
    out = sys.stderr if out is None else out
    seen = out.isatty() or "ipykernel" in sys.modules if shown is None else shown
    began, patience = time.monotonic(), _PATIENCE if shown is None else 0.0
    with tqdm(
        total=rows,
        disable=not seen,
        delay=patience,
        file=out,
        unit=" rows",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        desc="joining",
    ) as bar:

        def report(done: int, pieces: int, last: int) -> None:
            bar.update(last)
            long = time.monotonic() - began >= patience
            bar.set_postfix_str(f"bucket {done}/{pieces}, {_resident()}", refresh=long)

        yield report


def _resident() -> str:
    """Give the memory this process holds now, where Linux says it."""
    try:
        pages = int(_STATUS.read_text(encoding="ascii").split()[1])
    except OSError:
        return "memory unknown"
    return f"{pages * mmap.PAGESIZE / (1 << 20):,.0f} MiB"
