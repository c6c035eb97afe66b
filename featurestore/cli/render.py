"""What each command's answer looks like on a terminal; plans are in `plans`."""

from collections.abc import Mapping, Sequence

from rich.markup import escape

from featurestore.cli.terminal import facts, grouped, out, table
from featurestore.cli.values import text, texts
from featurestore.jobs.materialize import Outcome
from featurestore.jobs.rebuild import Rebuilt
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Project, Service, View
from featurestore.model.query import resolve
from featurestore.model.schema import Column
from featurestore.model.time import show


def outcomes(found: Sequence[Outcome]) -> None:
    """Print what a materialization did."""
    if not found:
        out.print("Nothing to materialize: every watermark is past the end.")
        return
    table(
        ["view", "rows", "to redis", "up to (UTC)", ""],
        [
            (
                o.version,
                f"{o.rows:,}",
                f"{o.served:,}",
                stamp(o.interval.end),
                "" if o.changed else "unchanged",
            )
            for o in found
        ],
        right=("rows", "to redis"),
        whole=("view", "rows", "up to (UTC)", ""),
    )


def backfilled(found: Sequence[Outcome], alias: str) -> None:
    """Print what a backfill computed: each table with its intervals."""
    if not found:
        out.print(f"Nothing to backfill: the applied versions hold all that {escape(alias)} needs.")
        return
    rows = [
        (
            f"{o.version}, table {o.table}",
            (
                f"{stamp(o.interval.start)} to {stamp(o.interval.end)}",
                f"{o.rows:,}",
                f"{o.served:,}",
                "" if o.changed else "unchanged",
            ),
        )
        for o in found
    ]
    table(
        ["known in (UTC)", "rows", "to redis", ""],
        grouped(rows),
        right=("rows", "to redis"),
        whole=("rows", "to redis", "known in (UTC)"),
    )


def project(
    found: Project, marks: Mapping[str, int | None], live: Mapping[str, Sequence[str]]
) -> None:
    """Print what is applied: `marks` are the stored views' watermarks, `live` views' aliases."""
    table(
        ["view", "keys", "ttl", "complete to (UTC)", "live in"],
        [
            (
                v.version,
                ", ".join(k.name for k in v.join_keys) or "-",
                span(v.ttl) if v.kind == "batch" else "-",
                stamp(marks[v.name]) if v.kind == "batch" else "on demand",
                ", ".join(live[v.name]) or "-",
            )
            for v in found.views
        ],
        whole=("view", "complete to (UTC)", "live in"),
    )
    out.print()
    table(
        ["service", "features", "uses"],
        [
            (
                s.name,
                sum(len(p.features) for p in s.projections),
                ", ".join(p.alias for p in s.projections),
            )
            for s in found.services
        ],
        right=("features",),
        whole=("service",),
    )


def view(found: View, mark: int | None) -> None:
    """Print one view: what it is, then each feature with its expression."""
    title(found.version, found.info.description)
    named = {"version": found.id, **definition(found)}
    if found.source is not None:
        named["complete to"] = show(mark)
    facts(named)
    out.print()
    table(
        ["feature", "dtype", "expression"],
        [(f.name, f.dtype, text) for f, text in zip(found.features, texts(found), strict=True)],
        whole=("feature", "dtype"),
    )


def definition(found: View) -> dict[str, str]:
    """Say what a view is made of, beside its features."""
    if found.source is None:
        return {
            "uses": ", ".join(p.alias for p in found.projections) or "-",
            "request data": columns(found.request) or "-",
        }
    source = found.source
    kept = {} if found.filter is None else {"filter": text(found.filter, f"{found.name}.filter")}
    return {
        "keys": columns(found.join_keys) or "none",
        "source": f"{source.name} ({source.path})",
        **kept,
        "event time": source.timestamp_field,
        "known at": found.known_at if source.created_field else "event",
        "ttl": span(found.ttl),
    }


def service(found: Service, views: Mapping[str, View]) -> None:
    """Print one service: what a request brings, the views it uses, its features in order."""
    asked = resolve(found.projections, Catalog(current=views), full_feature_names=True)
    title(f"{found.name}@{found.id[:12]}", found.info.description)
    facts(
        {
            "entities": columns(asked.entities) or "none",
            "request data": columns(asked.request) or "none",
        }
    )
    out.print()
    table(
        ["uses", "view", "join keys"],
        [
            (
                p.alias,
                views[p.view].version,
                ", ".join(f"{key}={column}" for key, column in p.join_key_map),
            )
            for p in found.projections
        ],
        whole=("uses", "view"),
    )
    out.print()
    rows = [(one.alias, (one.feature.name, one.feature.dtype)) for one in asked.outputs]
    table(["feature", "dtype"], grouped(rows), whole=("feature",))


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


def title(name: str, description: str) -> None:
    """Print the line above what is told of a document."""
    out.print(f"[bold]{escape(name)}[/]  {escape(description)}".rstrip())


def columns(found: Sequence[Column]) -> str:
    """Write columns with their dtypes."""
    return ", ".join(f"{column.name} ({column.dtype})" for column in found)


def stamp(us: int | None) -> str:
    """Write a moment for a column that says UTC in its head."""
    return show(us).removesuffix(" UTC").removesuffix(":00")


def second(us: int | None) -> str:
    """Write a moment to the second, for what happened and not for what data covers."""
    return show(us if us is None else us - us % 1_000_000)


def span(us: int | None) -> str:
    """Write a duration in its largest whole unit."""
    if us is None:
        return "none"
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return f"{us / 1e6:g}s"


def count(number: int, what: str) -> str:
    """Write so many of something."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def size(number: float) -> str:
    """Write a size in bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"
