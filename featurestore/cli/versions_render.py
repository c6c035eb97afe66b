"""What the commands of versions answer, on a terminal."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from rich.markup import escape
from rich.tree import Tree

from featurestore.cli.plans import changes
from featurestore.cli.render import count, definition, second, size, stamp, title
from featurestore.cli.terminal import facts, grouped, out, table
from featurestore.cli.values import texts
from featurestore.cli.versions_values import state, versions
from featurestore.jobs.collect import Collection
from featurestore.jobs.locks import Kept
from featurestore.jobs.publish import Published
from featurestore.jobs.verify import Verified
from featurestore.jobs.versions import Compared, Shown, Stored
from featurestore.model.lineage import Lineage, Node
from featurestore.model.needs import Registered
from featurestore.model.time import Interval, show, watermark
from featurestore.storage.documents import Entry


def verified(found: Verified, *, live: bool) -> None:
    """Print what was compared by each law, then every value that differs."""
    rows = [
        (
            check.law,
            (
                check.subject,
                f"{check.compared:,}" if check.skipped is None else "-",
                f"{check.differences.height:,}" if check.skipped is None else "-",
                check.skipped or "",
            ),
        )
        for check in found.checks
    ]
    table(
        ["law", "compared", "differ", ""],
        grouped(rows),
        right=("compared", "differ"),
        whole=("law", "compared", "differ"),
        dim=("",),
    )
    wrong = found.differences
    compared = sum(check.compared for check in found.checks)
    if wrong.is_empty():
        out.print(f"\nEqual: {count(compared, 'value')} compared.")
        if not live:
            out.print(f"`featurestore promote` can make them live in {escape(found.alias)}.")
        return
    out.print(f"\n[bold red]Not equal[/]: {wrong.height:,} of {count(compared, 'value')} differ.")
    for (law, version), group in groupby(wrong.iter_rows(), key=itemgetter(0, 1)):
        out.print(f"\n[bold]{law}[/], {escape(version)}:")
        table(
            ["entity", "feature", "expected", "found"],
            [row[2:] for row in group],
            whole=("feature", "entity"),
        )


def published(alias: str, found: Published) -> None:
    """Print what an alias names now."""
    release = found.release
    verb = "now names" if found.fresh else "already names"
    of = "" if release.restores is None else f", with the views of release {release.restores}"
    out.print(f"{escape(alias)} {verb} release {release.number}{of}.\n")
    table(
        ["view", "table", "complete to (UTC)"],
        [
            (live.view.version, live.table.id, stamp(live.watermark))
            for live in release.views
            if live.table
        ],
        whole=("view", "table", "complete to (UTC)"),
    )


def collectible(found: Collection, *, details: bool) -> None:
    """Print what would be removed; with `details` also what stays, and why."""
    if details:
        _kept(found)
    if found.tables:
        table(
            ["nobody needs", "table", "rows", "size", "written (UTC)"],
            [
                (
                    one.view.version,
                    one.table.id,
                    _known(one.rows, "{:,}".format),
                    _known(one.bytes, size),
                    second(one.written).removesuffix(" UTC"),
                )
                for one in found.tables
            ],
            right=("rows", "size"),
            whole=("nobody needs", "table", "rows", "size"),
        )


def _kept(found: Collection) -> None:
    table(
        ["stays", "table", "because"],
        [(n.view.version, n.table.id, "\n".join(n.reasons)) for n in found.kept],
        whole=("stays", "table"),
    )
    out.print()


def collected(found: Collection, *, removed: bool) -> None:
    """Print what became of what nobody needs."""
    parts = [count(len(found.tables), "table")] if found.tables else []
    parts += [f"copies of {count(len(found.releases), 'release')}"] if found.releases else []
    what, stay = " and ".join(parts), count(len(found.kept), "table")
    if not parts:
        out.print(f"Nothing to collect; kept: {stay}.")
    elif removed:
        out.print(f"\nRemoved {what}; kept: {stay}.")
    else:
        out.print(
            f"\nNothing was removed: {what} may go with `featurestore collect --yes`; kept: {stay}."
        )


def kept(found: Kept) -> None:
    """Print what registering a lock did."""
    one = found.registered
    _lock(one, "registered")
    out.print()
    if found.warmed:
        out.print(f"Made warm for it: {', '.join(found.warmed)}.")
    if found.collected:
        gone = ", ".join(found.collected)
        out.print(
            f"[yellow]Training data gone[/]: {gone}. The lock can be served, but its training set "
            "cannot be made again."
        )
    elif not found.warmed:
        out.print("All it needs was there.")


def locks(found: Sequence[Registered], now: int, *, hidden: int) -> None:
    """Print registered locks, one below the other."""
    for one in found:
        _lock(one, state(one, now))
        out.print()
    if not found:
        out.print("No lock is registered.")
    if hidden:
        out.print(f"{count(hidden, 'more lock')} expired or retired; --all lists them.")


def _lock(one: Registered, how: str) -> None:
    lock = one.lock
    out.print(f"[bold]{one.id[:12]}[/]  {how}, of {escape(one.owner)}")
    named = {
        "asks for": f"{lock.service or 'features'} ({count(len(lock.outputs), 'feature')})",
        "versions": ", ".join(versions(lock)),
        "registered": second(one.registered),
        "expires": second(one.expires),
    }
    if one.retired is not None:
        named["retired"] = second(one.retired)
    facts(named)


def retired(found: Registered) -> None:
    """Print that a lock is let go."""
    out.print(
        f"Lock {found.id[:12]} of {escape(found.owner)} is retired; `featurestore collect` shows "
        "what only it kept."
    )


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


def _known(number: int | None, write: Callable[[int], str]) -> str:
    """Write a size; that of a table which cannot be read is unknown."""
    return "unknown" if number is None else write(number)


def _stored(one: Stored) -> dict[str, str]:
    known = ", ".join(map(_interval, one.covered)) or "nothing yet"
    return {
        "rows": f"{_known(one.rows, '{:,}'.format)} ({_known(one.bytes, size)})"
        if one.rows is not None
        else "unknown: the table cannot be read",
        "holds": known,
        "complete to": show(watermark(one.covered)),
        "verified": "yes" if one.verified else "no",
        "stays for": ", ".join(one.reasons) or "nobody: `featurestore collect` removes it",
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


def log(found: Sequence[Entry], limit: int) -> None:
    """Print the newest lines of the audit, newest first."""
    table(
        ["when (UTC)", "who", "commit", "action", "what"],
        list(_entries(found[:limit])),
        whole=("when (UTC)", "commit", "action"),
    )
    if len(found) > limit:
        out.print(f"\n{len(found) - limit:,} older; --limit shows more.")


def _entries(found: Sequence[Entry]) -> Iterator[Sequence[str]]:
    for one in found:
        yield (
            second(one.at).removesuffix(" UTC"),
            one.who,
            (one.commit or "-")[:8],
            one.action,
            one.detail,
        )
