"""What a person types: thin commands that parse, call a job and render its answer.

May import every room. Its law: a command decides nothing; exit codes and `--json` say what the job
said.

======== ======================================================================================
commands what the command line looks like: arguments, help and exit codes; loads nothing else
run      what each command does: one job
text     what it then prints for a person
values   what it prints for a program, with `--json`
======== ======================================================================================

Each of the four has the same modules:

======== ======================================================================================
building plan, apply, materialize, materialize-incremental, backfill
versions verify, promote, rollback, collect
locks    lock register, lock list, lock retire
history  list, describe, show, diff, lineage, log
serving  serve, get-online, push, ingest, rebuild-online, online status, online stop
======== ======================================================================================
"""

from featurestore.cli.commands import main

__all__ = ["main"]
