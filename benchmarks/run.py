"""Run benchmarks: `python benchmarks/run.py [names…] [--full]`.

Prints a table for each and writes `benchmarks/out/<name>.json`. Every side of a benchmark runs in
the same run on the same data, in turn; answers are compared before times are. Exits 1 if two sides
answer differently.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import materialize
import serving
import training
import versions
from options import Options
from report import Report, Unequal, show, write
from rich.console import Console

BENCHMARKS: Mapping[str, Callable[[Options, Path], Report]] = MappingProxyType(
    {
        "training": training.run,
        "materialize": materialize.run,
        "serving": serving.run,
        "versions": versions.run,
    }
)


def main() -> int:
    """Run what the command line names; gives the exit code."""
    given = _arguments()
    feast = not given.without_feast and find_spec("feast") is not None
    options = Options(size=given.size, repeats=given.repeats, feast=feast)
    console = Console(width=80, highlight=False)
    for name in given.names or BENCHMARKS:
        began = time.monotonic()
        try:
            with TemporaryDirectory(prefix=f"bench-{name}-") as folder:
                report = BENCHMARKS[name](options, Path(folder))
        except Unequal as problem:
            console.print(f"[red]{name}: the sides answer differently[/]: {problem}")
            return 1
        seconds = time.monotonic() - began
        show(report, console)
        file = write(report, given.out, seconds)
        console.print(f"[dim]took[/]   {seconds:.0f} s, into {file}\n", soft_wrap=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    size = parser.add_mutually_exclusive_group()
    for name, told in (("full", "the sizes of big runs"), ("tiny", "a smoke test's sizes")):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=told)
    parser.set_defaults(size="default")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--without-feast", action="store_true", help="leave Feast's side out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(BENCHMARKS))
    if unknown or given.repeats < 1:
        parser.error(f"unknown: {', '.join(unknown)}" if unknown else "--repeats: at least 1")
    return given


if __name__ == "__main__":
    sys.exit(main())
