"""The commands of versions: to build one beside what is live, prove it, switch, keep, look back."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore import cli
from featurestore.cli.options import HERE, Json, Repo, Views

NOT_EQUAL = 8
"""The exit code of a verification that found values which are not equal."""

_VERSIONS = "Versions"
_HISTORY = "What there is, and was"

app = typer.Typer()
lock = typer.Typer(
    help="Locks of training sets: a registered one keeps its data alive.", no_args_is_help=True
)
app.add_typer(lock, name="lock", rich_help_panel=_VERSIONS)

Alias = Annotated[str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to move.")]


@app.command(rich_help_panel=_VERSIONS)
def backfill(
    repo: Repo = HERE,
    alias: Annotated[
        str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to get ready for.")
    ] = "prod",
    view: Views = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Compute the named views anew, beside a load under suspicion."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compute what is applied, beside what is live and over the same time."""
    cli.repo.backfill(repo, alias, views=view or (), again=again, json=json)


@app.command(rich_help_panel=_VERSIONS)
def verify(
    repo: Repo = HERE,
    alias: Annotated[
        str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to verify for.")
    ] = "prod",
    everything: Annotated[
        bool, typer.Option("--all", help="All entities, not a sample of them.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="What the alias serves now, not what comes next.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask a running server; implies --live."),
    ] = None,
    json: Json = False,
) -> None:
    """Prove that what is served is what training reads; exit 8 if any value differs.

    Only what passed can be promoted.
    """
    live = live or address is not None
    if not cli.versions.verify(
        repo, alias, everything=everything, live=live, address=address, json=json
    ):
        raise typer.Exit(NOT_EQUAL)


@app.command(rich_help_panel=_VERSIONS)
def promote(
    repo: Repo = HERE,
    alias: Alias = "prod",
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="ID", help="Promote this plan, as `apply` named it, only."),
    ] = None,
    json: Json = False,
) -> None:
    """Make what is applied, computed and verified the release that an alias names."""
    cli.versions.promote(repo, alias, plan_id=plan, json=json)


@app.command(rich_help_panel=_VERSIONS)
def rollback(
    repo: Repo = HERE,
    alias: Alias = "prod",
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", help="The release to go back to; default the last."),
    ] = None,
    json: Json = False,
) -> None:
    """Give an alias back the views that it named before; no data moves."""
    cli.versions.rollback(repo, alias, to=to, json=json)


@app.command(rich_help_panel=_VERSIONS)
def collect(
    repo: Repo = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Show what stays as well, and why.")
    ] = False,
    json: Json = False,
) -> None:
    """Show, then remove the tables that no recent release, lock or running work needs.

    Asks before it removes anything; away from a terminal it removes only with --yes.
    """
    cli.versions.collect(repo, yes=yes, details=details, json=json)


@lock.command("register")
def lock_register(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The lock, as JSON.")],
    owner: Annotated[
        str, typer.Option("--owner", "-o", metavar="NAME", help="Who is asked before it goes.")
    ],
    repo: Repo = HERE,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Until when, ISO 8601; naive means UTC. Default always."),
    ] = None,
    json: Json = False,
) -> None:
    """Keep a training set's data alive, and every alias able to answer it."""
    cli.versions.register(repo, file, owner=owner, expires=expires, json=json)


@lock.command("list")
def lock_list(
    repo: Repo = HERE,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that expired or were retired as well.")
    ] = False,
    json: Json = False,
) -> None:
    """List the registered locks."""
    cli.versions.locks(repo, everything=everything, json=json)


@lock.command("retire")
def lock_retire(
    lock_id: Annotated[
        str, typer.Argument(metavar="ID", help="The lock's id, or the start of it.")
    ],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Let go of a lock; what only it kept may be collected."""
    cli.versions.retire(repo, lock_id, json=json)


@app.command("list", rich_help_panel=_HISTORY)
def list_(repo: Repo = HERE, json: Json = False) -> None:
    """List the applied views and services."""
    cli.repo.list_(repo, json=json)


@app.command(rich_help_panel=_HISTORY)
def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A view or service.")],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Describe one applied view or service."""
    cli.repo.describe(repo, name, json=json)


@app.command(rich_help_panel=_HISTORY)
def show(
    name: Annotated[
        str, typer.Argument(metavar="VIEW[@VERSION]", help="A version; default the applied one.")
    ],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Show a version: its features, its states and why, its tables, who names it."""
    cli.versions.show(repo, name, json=json)


@app.command(
    rich_help_panel=_HISTORY,
    epilog="Examples: featurestore diff 3 prod; featurestore diff plane_history@7f3a plane_history",
)
def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A version (VIEW@VERSION), release number or alias.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="Another of the same.")],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Compare two versions of a view, or two releases, down to the feature."""
    cli.versions.diff(repo, before, after, json=json)


@app.command(rich_help_panel=_HISTORY)
def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Only around this source, view, version, service or lock."
        ),
    ] = None,
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Draw what is made of what: source, view, version, service, lock."""
    cli.versions.lineage(repo, name, json=json)


@app.command(rich_help_panel=_HISTORY)
def log(
    repo: Repo = HERE,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many; default 20, with --json all."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell who did what, when and from which commit, newest first."""
    cli.versions.log(repo, limit=limit, json=json)
