"""What a look-up, a push, an ingest and a rebuild look like on a terminal."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.markup import escape

from featurestore.cli.terminal import grouped, out, table
from featurestore.jobs.ingest import Progress
from featurestore.jobs.rebuild import Rebuilt
from featurestore.model.words import count
from featurestore.serving.client.response import OnlineResponse
from featurestore.serving.message.pushed import PushResult

_SHOWN = 10
"""How many refusals are shown."""


def looked_up(service: str, found: OnlineResponse) -> None:
    """Print an answer: each value with its status and event time."""
    out.print(
        f"{escape(service)}, release {found.release}, as of {found.as_of:%Y-%m-%d %H:%M:%S} UTC\n"
    )
    table(
        ["feature", "value", "status", "event time (UTC)"],
        grouped(_rows(found)),
        right=("value",),
        whole=("feature", "status", "event time (UTC)"),
    )


def _rows(found: OnlineResponse) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give (alias, (feature, value, status, event time)) of a one-row answer."""
    times, states = found.event_times, found.statuses
    for column, origin in zip(found.columns, found.origins, strict=True):
        alias, name = found.projections[origin].alias, column.name
        state, time = states[name][0], _cell(times[name][0], "")
        yield alias, (name.removeprefix(f"{alias}__"), _cell(column[0], "null"), state, time)


def _cell(value: object, missing: str) -> str:
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).removesuffix("+00:00")


def pushed(found: PushResult) -> None:
    """Print what a push came to: where its rows are, and the first that were refused."""
    counts = f"{found.accepted:,} rows accepted, {found.refused_rows:,} refused"
    out.print(f"{escape(found.source)}: {counts}\n")
    places = [("offline", found.offline), *((one.version, str(one)) for one in found.online)]
    table(["where", "what"], places, whole=("where",))
    if found.refused.is_empty():
        return
    out.print()
    table(
        ["row", "at", "why it was refused"],
        (
            ("all" if row is None else f"{row:,}", at, reason)
            for row, at, reason in found.refused.head(_SHOWN).iter_rows()
        ),
        right=("row",),
    )
    if found.refused.height > _SHOWN:
        out.print(f"and {found.refused.height - _SHOWN:,} more refusals")


_INGESTED = "{:>8}  {:>9}  {:>8}  {:>8}  {:>10}  {:>10}  {:>10}"


def ingested(done: Progress) -> None:
    """Print a line of what became of a batch; the first one with heads above it."""
    if done.batches == 1:
        heads = ("UTC", "rows", "rows/s", "refused", "to come", "pending", "behind")
        out.print(_INGESTED.format(*heads), style="bold")
    lag = done.lag
    line = _INGESTED.format(
        f"{datetime.now(UTC):%H:%M:%S}",
        f"{done.rows:,}",
        f"{done.entries / max(done.seconds, 1e-6):,.0f}",
        f"{done.refused:,}",
        "unknown" if lag.entries is None else f"{lag.entries:,}",
        f"{lag.pending:,}",
        f"{lag.seconds:,.1f} s",
    )
    out.print(line)


def drained(source: str, refused: str, done: Progress) -> None:
    """Print what an ingest came to."""
    told = f"{count(done.total_rows, 'row')} taken, {done.total_refused:,} refused"
    if done.total_refused:
        told += f", kept in the stream {refused}"
    if done.lag.pending:
        told += f"; {done.lag.pending:,} pending with other consumers"
    out.print(f"{escape(source)}: {escape(told)}")


def rebuilt(found: Rebuilt) -> None:
    """Print what a rebuild wrote."""
    if not found.aliases:
        out.print("Nothing to rebuild: nothing was promoted yet.")
        return
    table(
        ["view", "rows restored"],
        [(version, f"{rows:,}") for version, rows in found.rows.items()],
        right=("rows restored",),
        whole=("view",),
    )
    out.print()
    for name, number in found.aliases.items():
        out.print(f"{escape(name)} names release {number}.")
