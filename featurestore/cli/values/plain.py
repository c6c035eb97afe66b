"""What several answers are made of, as plain values."""

from datetime import datetime
from typing import Any

from featurestore.model import expressions
from featurestore.model.documents import Expression, View
from featurestore.model.time import BEGINNING, Interval, moment
from featurestore.model.windows import described


def interval(one: Interval) -> dict[str, Any]:
    """Give an interval: known after `start` (null: ever) up to and with `end`."""
    return {"start": when(one.start), "end": when(one.end)}


def texts(found: View) -> list[str]:
    """Give each feature's expression as people read it, and over which window it is taken."""
    return [
        f"{described(f)} of {told}" if f.window else told
        for f in found.features
        for told in [text(f.expression, f"{found.name}.{f.name}")]
    ]


def text(expression: Expression, path: str) -> str:
    """Give an expression as people read it, or the dialect of one that cannot be read here."""
    dialects = [spelling.dialect for spelling in expression.spellings]
    if expressions.DIALECT not in dialects:
        return f"an expression of {', '.join(dialects)}"
    return expressions.text(expressions.decode(expression, path=path))


def when(us: int | None) -> datetime | None:
    """Give a moment for JSON; None for never, and for a start at the beginning of time."""
    return None if us is None or us <= BEGINNING else moment(us)
