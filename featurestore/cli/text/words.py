"""How moments, durations, dtypes and titles are written."""

from collections.abc import Callable, Sequence

from rich.markup import escape

from featurestore.cli.terminal import out
from featurestore.model import words
from featurestore.model.schema import Column
from featurestore.model.time import BEGINNING, Interval, show

MINUTE = 60_000_000


def title(name: str, description: str) -> None:
    """Print the line above what is told of a document."""
    out.print(f"[bold]{escape(name)}[/]  {escape(description)}".rstrip())


def columns(found: Sequence[Column]) -> str:
    """Write columns with their dtypes."""
    return ", ".join(f"{column.name} ({column.dtype})" for column in found)


def stamp(us: int | None) -> str:
    """Write a moment for a column that says UTC in its head."""
    return show(us).removesuffix(" UTC").removesuffix(":00")


def minute(us: int) -> str:
    """Write a moment to the minute, rounded up, for a column or sentence that needs no more."""
    return stamp(us if us <= BEGINNING else -(-us // MINUTE) * MINUTE)


def between(one: Interval) -> str:
    """Write an interval to the minute."""
    return f"{minute(one.start)} to {minute(one.end)}"


def span(us: int | None) -> str:
    """Write a duration in its largest whole unit."""
    return "none" if us is None else words.span(us)


def known(number: int | None, write: Callable[[int], str]) -> str:
    """Write a size; that of a table which cannot be read is unknown."""
    return "unknown" if number is None else write(number)
