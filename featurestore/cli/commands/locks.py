"""Register, list and retire locks."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, Json, Repo

app = typer.Typer(
    help="Locks of training sets: a registered one keeps its data alive.", no_args_is_help=True
)


@app.command("register")
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
    run.locks.register(repo, file, owner=owner, expires=expires, json=json)


@app.command("list")
def lock_list(
    repo: Repo = HERE,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that expired or were retired as well.")
    ] = False,
    json: Json = False,
) -> None:
    """List the registered locks."""
    run.locks.locks(repo, everything=everything, json=json)


@app.command("retire")
def lock_retire(
    lock_id: Annotated[
        str, typer.Argument(metavar="ID", help="The lock's id, or the start of it.")
    ],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Let go of a lock; what only it kept may be collected."""
    run.locks.retire(repo, lock_id, json=json)
