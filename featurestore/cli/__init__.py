"""What a person types: thin commands that parse, call a job and render its answer.

May import every room. Its law: a command decides nothing; exit codes and `--json` say what the job
said.
"""

from featurestore.cli.commands import main

__all__ = ["main"]
