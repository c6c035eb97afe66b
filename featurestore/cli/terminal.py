"""Standard output, error and files: tables of 80 columns for people, JSON for programs."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featurestore.errors import Unavailable

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_GAP = 2
_LEAST = 8
"""Characters that a column which may fold needs, to stay readable."""


def as_json(value: object) -> None:
    """Print one JSON document on stdout: moments are ISO 8601, NaN and infinity are strings."""
    print(json.dumps(plain(value), indent=2, allow_nan=False))  # noqa: T201 - stdout is the interface


def as_json_line(value: object) -> None:
    """Print a JSON document on a line of its own, at once: for what goes on for long."""
    print(json.dumps(plain(value), allow_nan=False), flush=True)  # noqa: T201 - as above


def to_file(path: Path, text: str) -> None:
    """Write a file: whole, or not at all.

    Raises:
        Unavailable: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise Unavailable(f"{path}: cannot be written: {error.strerror}; mend that") from error


def plain(value: object) -> object:
    """Give a value as what JSON has."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    dim: Sequence[str] = (),
) -> None:
    """Print a table that folds to the terminal's width.

    Columns in `right` are aligned right; cells of the columns in `whole` (what people copy, most
    wanted first) stay on one line as long as the rest has room beside them. Those in `dim` are
    beside the point.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = {
        name: max(len(name), *(_length(row[n]) for row in cells), 0)
        for n, name in enumerate(columns)
    }
    kept = list(whole)
    while kept and not _roomy(widths, kept):
        kept.pop()
    grid = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for name in columns:
        grid.add_column(
            escape(name),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name in kept,
            style="dim" if name in dim else None,
        )
    for row in cells:
        grid.add_row(*map(escape, row))
    out.print(grid)


def _length(cell: str) -> int:
    return max(map(len, cell.splitlines()), default=0)


def _roomy(widths: Mapping[str, int], whole: Sequence[str]) -> bool:
    """Say whether these columns can stay unfolded."""
    least = (width if name in whole else min(width, _LEAST) for name, width in widths.items())
    return sum(least) + _GAP * (len(widths) - 1) <= out.width


def grouped(rows: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Sequence[str]]:
    """Give a table's rows out of (group, row): each run of a group indented under its name."""
    for group, members in groupby(rows, key=itemgetter(0)):
        for number, (_, (first, *rest)) in enumerate(members):
            if not number:
                yield f"{group}:", *("" for _ in rest)
            yield f"  {first}", *rest


def facts(pairs: Mapping[str, str]) -> None:
    """Print named facts beneath each other, folded at words."""
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in pairs.items():
        grid.add_row(f"  {escape(name)}", escape(fact))
    out.print(grid)


def error(problem: Exception) -> None:
    """Print an error: folded at words for a person, on one line for a log."""
    text = f"[bold red]error[/]: {escape(str(problem))}"
    err.print(text, soft_wrap=not err.is_terminal)


def note(text: str) -> None:
    """Print what a person should know beside the answer, and a program need not."""
    err.print(escape(text), soft_wrap=not err.is_terminal)


def busy(what: str) -> AbstractContextManager[object]:
    """Show on a terminal that something takes its time, while the block lasts."""
    return err.status(what) if err.is_terminal else nullcontext()
