"""What each command's answer looks like on a terminal; plans are in `plans`."""

from collections.abc import Mapping, Sequence

from rich.markup import escape

from featurestore.cli.terminal import facts, grouped, out, table
from featurestore.cli.values import texts
from featurestore.jobs.materialize import Outcome
from featurestore.jobs.rebuild import Rebuilt
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Project, Release, Service, View
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
                _stamp(o.interval.end),
                "" if o.changed else "unchanged",
            )
            for o in found
        ],
        right=("rows", "to redis"),
        whole=("view", "rows", "up to (UTC)", ""),
    )


def promoted(alias: str, release: Release, *, new: bool) -> None:
    """Print what an alias names now."""
    verb = "now names" if new else "already names"
    out.print(f"{escape(alias)} {verb} release {release.number}.\n")
    table(
        ["view", "table", "complete to (UTC)"],
        [
            (live.view.version, live.table.id, _stamp(live.watermark))
            for live in release.views
            if live.table
        ],
        whole=("view", "table", "complete to (UTC)"),
    )


def project(found: Project, marks: Mapping[str, int | None]) -> None:
    """Print the views and services that are applied; `marks` are the stored views' watermarks."""
    table(
        ["view", "keys", "features", "ttl", "complete to (UTC)"],
        [
            (
                v.version,
                ", ".join(k.name for k in v.join_keys) or "-",
                len(v.features),
                span(v.ttl) if v.kind == "batch" else "-",
                _stamp(marks[v.name]) if v.kind == "batch" else "on demand",
            )
            for v in found.views
        ],
        right=("features",),
        whole=("view", "complete to (UTC)"),
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
    _title(found.version, found.info.description)
    named = {"version": found.id}
    if found.source is not None:
        named |= {
            "keys": _columns(found.join_keys) or "none",
            "source": f"{found.source.name} ({found.source.path})",
            "event time": found.source.timestamp_field,
            "known at": found.known_at if found.source.created_field else "event",
            "ttl": span(found.ttl),
            "complete to": show(mark),
        }
    else:
        named |= {
            "uses": ", ".join(p.alias for p in found.projections) or "-",
            "request data": _columns(found.request) or "-",
        }
    facts(named)
    out.print()
    table(
        ["feature", "dtype", "expression"],
        [(f.name, f.dtype, text) for f, text in zip(found.features, texts(found), strict=True)],
        whole=("feature", "dtype"),
    )


def service(found: Service, views: Mapping[str, View]) -> None:
    """Print one service: what a request brings, the views it uses, its features in order."""
    asked = resolve(found.projections, Catalog(current=views), full_feature_names=True)
    _title(f"{found.name}@{found.id[:12]}", found.info.description)
    facts(
        {
            "entities": _columns(asked.entities) or "none",
            "request data": _columns(asked.request) or "none",
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


def _title(name: str, description: str) -> None:
    out.print(f"[bold]{escape(name)}[/]  {escape(description)}".rstrip())


def _columns(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} ({column.dtype})" for column in columns)


def _stamp(us: int | None) -> str:
    """Write a moment for a column that says UTC in its head."""
    return show(us).removesuffix(" UTC").removesuffix(":00")


def span(us: int | None) -> str:
    """Write a duration with its greatest whole unit."""
    if us is None:
        return "none"
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return f"{us / 1e6:g}s"
