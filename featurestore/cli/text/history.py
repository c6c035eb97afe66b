"""What there is, and was, looks like on a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.tree import Tree

from featurestore.cli.terminal import facts, grouped, out, table
from featurestore.cli.text.building import changes
from featurestore.cli.text.words import MINUTE, between, columns, known, span, stamp, title
from featurestore.cli.values.locks import state
from featurestore.cli.values.plain import texts
from featurestore.jobs.commit import DIRTY
from featurestore.jobs.compact import SOURCE as COMPACTION
from featurestore.jobs.versions import Compared, Shown, Stored
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Project, Service, View
from featurestore.model.lineage import Lineage, Node
from featurestore.model.query import resolve
from featurestore.model.shown import expression_text
from featurestore.model.time import Interval, second, show, watermark
from featurestore.model.words import size
from featurestore.storage.documents import Entry
from featurestore.storage.ledger import Run


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
    path = f"{found.name}.filter"
    kept = {} if found.filter is None else {"filter": expression_text(found.filter, path)}
    return {
        "keys": columns(found.join_keys) or "none",
        "source": f"{source.name} ({source.path})",
        **kept,
        "event time": source.timestamp_field,
        "known at": found.known_at if source.created_field else "event",
        **({"event id": found.event_id} if found.event_id else {}),
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


def shown(found: Shown, now: int) -> None:
    """Print one version: what it is, what has become of it, its features, tables and users."""
    view = found.view
    title(view.version, view.info.description)
    facts({"version": view.id, "registered": second(found.registered), **definition(view)})
    out.print()
    table(
        ["state", ""],
        [(one.name, one.why) for one in found.states],
        whole=("state",),
    )
    out.print()
    table(
        ["feature", "id", "dtype", "expression"],
        [
            (f.name, f.id[:12], f.dtype, text)
            for f, text in zip(view.features, texts(view), strict=True)
        ],
        whole=("feature", "id", "dtype"),
    )
    if found.tables:
        out.print()
        for one in found.tables:
            out.print(f"table [bold]{one.table.id}[/]")
            facts(_stored(one))
    named = _named(found, now)
    if named:
        out.print()
        facts(named)


def _stored(one: Stored) -> dict[str, str]:
    holds = ", ".join(map(_interval, one.covered)) or "nothing yet"
    return {
        "rows": "unknown: the table cannot be read"
        if one.rows is None
        else f"{one.rows:,} ({known(one.bytes, size)})",
        "holds": holds,
        "complete to": show(watermark(one.covered)),
        "verified": "yes" if one.verified else "no",
        "stays for": "\n".join(one.reasons) or "nobody: `featurestore collect` removes it",
    }


def _interval(one: Interval) -> str:
    return f"{stamp(one.start)} to {stamp(one.end)}"


def _named(found: Shown, now: int) -> dict[str, str]:
    """Say which releases and locks name a version."""
    releases = [
        f"{number} ({', '.join(aliases)})" if aliases else f"{number}"
        for number, aliases in found.releases.items()
    ]
    named = {
        "live in": ", ".join(releases),
        "warm in": ", ".join(map(str, found.warm)),
        "locks": ", ".join(
            f"{one.id[:12]} of {one.owner} ({state(one, now)})" for one in found.locks
        ),
    }
    return {name: said for name, said in named.items() if said}


def compared(found: Compared) -> None:
    """Print what changes from one version or release to another."""
    out.print(f"[bold]{escape(found.before)}[/] → [bold]{escape(found.after)}[/]\n")
    changed = [change for change in found.changes if change.kind != "none"]
    if changed:
        out.print(changes(changed))
    for version, before, after in found.tables:
        out.print(f"{escape(version)} was computed again: table {before} → {after}")
    if not changed and not found.tables:
        out.print("The same.")


def lineage(found: Lineage) -> None:
    """Draw a graph as trees; what is made of several things stands below each."""
    if not found.nodes:
        out.print("Nothing is applied yet.")
    for root in found.roots():
        tree = Tree(_node(root), guide_style="dim")
        _grow(tree, (root,), found)
        out.print(tree)


def _grow(tree: Tree, path: tuple[Node, ...], found: Lineage) -> None:
    *above, node = path
    for one in found.below(node, above):
        _grow(tree.add(_node(one)), (*path, one), found)


def _node(node: Node) -> str:
    kind = "" if node.kind == "version" else f"[dim]{node.kind}[/] "
    note = f"  [dim]{escape(node.note)}[/]" if node.note else ""
    return f"{kind}{escape(node.name)}{note}"


def runs(found: Sequence[Run], limit: int) -> None:
    """Print the newest runs, newest first."""
    if not found:
        out.print("Nothing was materialized yet.")
        return
    table(
        ["when (UTC)", "version, table", "known (UTC)", "rows, of"],
        [
            (
                f"{stamp(one.started - one.started % MINUTE)}\n{_done(one)}",
                f"{one.view}@{one.version[:12]}\n{one.table_id}",
                *_of(one),
            )
            for one in found[:limit]
        ],
        right=("rows, of",),
        whole=("when (UTC)", "known (UTC)", "rows, of", "version, table"),
    )
    if len(found) > limit:
        out.print(f"\n{len(found) - limit:,} older; --limit shows more.")


def _of(one: Run) -> tuple[str, str]:
    """Say what a run covered; a compaction is no rows known at no time."""
    if one.source == COMPACTION:
        return "compacted", "-"
    interval = between(one.interval).replace(" to ", "\nto ")
    return interval, f"{one.rows:,}\n{one.source.partition(':')[0][:8] or '-'}"


def _done(one: Run) -> str:
    """Say how long a run took, and what became of it."""
    if one.finished is None:
        return one.state
    took = f"{(one.finished - one.started) / 1e6:.1f}s"
    if one.state != "served" or one.delta_version == one.base_version:
        return f"{took}, {'unchanged' if one.state == 'served' else one.state}"
    if one.source == COMPACTION:
        return took
    repaired = f"\n{one.repaired:,} repaired" if one.repaired else ""
    return f"{took}, {one.served or 0:,} served{repaired}"


def log(found: Sequence[Entry], limit: int) -> None:
    """Print the newest lines of the audit, newest first."""
    table(
        ["when (UTC)", "who", "commit", "action", "what"],
        list(_entries(found[:limit])),
        whole=("when (UTC)", "commit", "action"),
    )
    if len(found) > limit:
        out.print(f"\n{len(found) - limit:,} older; --limit shows more.")


def _commit(commit: str | None) -> str:
    """Write a commit briefly, with a plus if the files were not quite its own."""
    return "-" if commit is None else commit[:8] + "+" * commit.endswith(DIRTY)


def _entries(found: Sequence[Entry]) -> Iterator[Sequence[str]]:
    for one in found:
        yield (
            second(one.at).removesuffix(" UTC"),
            one.who,
            _commit(one.commit),
            one.action,
            one.detail,
        )
