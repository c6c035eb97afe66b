"""Feast's own command line, as `feast` runs it."""

from feast.cli.cli import cli

if __name__ == "__main__":
    cli()
