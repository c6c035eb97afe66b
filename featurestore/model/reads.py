"""What a view reads of its source: which columns, and whether rows pushed to it are its rows."""

from collections.abc import Iterable
from functools import lru_cache

from featurestore.model.documents import Source, View
from featurestore.model.schema import Column
from featurestore.model.windows import numbered, windows


def takes_pushed(view: View) -> bool:
    """Say whether rows pushed to a view's source are rows of the view.

    Where windows count every row as an event, for want of an event id, a row that was pushed and
    then lands in the file as well would count twice.
    """
    return view.source is not None and (view.event_id is not None or not windows(view))


def event_id(view: View) -> Column:
    """Give the column whose values tell a numbered view's events apart."""
    assert view.source is not None
    return next(column for column in view.source.columns if column.name == view.event_id)


def read_columns(view: View) -> list[Column]:
    """Give the columns that a view's expressions read, and its event id where windows need it."""
    own = [event_id(view)] if numbered(view) else []
    return [*(c for f in view.features for c in f.reads), *view.filter_reads, *own]


@lru_cache(maxsize=1024)
def needed(view: View) -> tuple[str, ...]:
    """Name the columns that a view needs of its source: keys, times and what it reads."""
    assert view.source is not None
    source = view.source
    times = [source.timestamp_field, *filter(None, [source.created_field])]
    return (*(k.name for k in view.join_keys), *times, *(c.name for c in read_columns(view)))


def sources_of(views: Iterable[View]) -> dict[str, tuple[Source, ...]]:
    """Give the sources that views read, by their logical name, each document once."""
    found: dict[str, dict[Source, None]] = {}
    for view in views:
        if view.source is not None:
            found.setdefault(view.source.name, {})[view.source] = None
    return {name: tuple(sources) for name, sources in found.items()}


def takes_pushes(view: View) -> bool:
    """Say whether rows may be pushed to a view's source."""
    return view.source is not None and view.source.pushed and takes_pushed(view)
