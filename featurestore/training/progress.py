"""A progress bar for long joins, where somebody looks: pieces done, rows per second, memory."""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm

_PATIENCE = 2.0
"""Seconds that a join may take before its bar is shown."""
_STATUS = Path("/proc/self/statm")
_PAGE = 4096


class Progress:
    """Shows how far a join is, by bucket; a context manager, called as pieces are done.

    Args:
        rows: the entity rows to answer, over all lookups.
        shown: whether to show it; by default if the terminal or the notebook can.
        out: where to show it.
    """

    def __init__(self, rows: int, *, shown: bool | None = None, out: TextIO | None = None) -> None:
        out = sys.stderr if out is None else out
        seen = out.isatty() or "ipykernel" in sys.modules if shown is None else shown
        self._began, self._patience = time.monotonic(), _PATIENCE if shown is None else 0.0
        self._bar = tqdm(
            total=rows,
            disable=not seen,
            delay=self._patience,
            file=out,
            unit=" rows",
            unit_scale=True,
            leave=False,
            dynamic_ncols=True,
            desc="joining",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, done: int, pieces: int, rows: int) -> None:
        """Show that so many of the pieces are done, the last one of so many entity rows."""
        self._bar.update(rows)
        long = time.monotonic() - self._began >= self._patience
        self._bar.set_postfix_str(f"bucket {done}/{pieces}, {_resident()}", refresh=long)


def _resident() -> str:
    """Give the memory this process holds now, where Linux says it."""
    try:
        pages = int(_STATUS.read_text(encoding="ascii").split()[1])
    except OSError:
        return "memory unknown"
    return f"{pages * _PAGE / (1 << 20):,.0f} MiB"
