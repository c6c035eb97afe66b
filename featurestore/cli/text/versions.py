"""What verifying, promoting, rolling back and collecting look like on a terminal."""

from itertools import groupby
from operator import itemgetter

from rich.markup import escape

from featurestore.cli.terminal import grouped, out, table
from featurestore.cli.text.words import known, stamp
from featurestore.jobs.collect import Collection
from featurestore.jobs.proof.stored import KEPT
from featurestore.jobs.publish import Published
from featurestore.jobs.verify import COMPLETE, Verified
from featurestore.model.time import second
from featurestore.model.words import count, size


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
        present = sum(check.present for check in found.checks)
        out.print(f"\nEqual: {count(compared, 'value')} compared, {present:,} of them not null.")
        if not live and not any(check.law == COMPLETE for check in found.checks):
            out.print(f"`featurestore promote` can make them live in {escape(found.alias)}.")
        return
    out.print(f"\n[bold red]Not equal[/]: {wrong.height:,} of {count(compared, 'value')} differ.")
    if KEPT in wrong["check"]:
        out.print(
            "Where the source was corrected since, `featurestore materialize START END` over the "
            "rows that differ takes that into the live table, and makes old and new equal."
        )
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
                    known(one.rows, "{:,}".format),
                    known(one.bytes, size),
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
