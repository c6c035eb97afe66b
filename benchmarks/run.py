"""Run benchmarks: `python benchmarks/run.py [names…] [--full]`.

Prints tables for each and writes `benchmarks/out/<name>.json`. Every side of a benchmark runs in
the same run on the same data, in turn; answers are compared before times are. Exits 1 if two sides
answer differently, if one fails, and, but at the smallest size, if a figure that must be reached
falls short or could not be measured; each is named.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import cold
import executors
import large
import materialize
import serving
import serving_profile
import skew
import training
import versions
import views
import windows
import windows_lookup
import windows_push
from load import H2LOAD, MISSING
from options import Options
from process import Failed
from report import Report, Unequal, show, show_goals, write
from rich.console import Console

BENCHMARKS: Mapping[str, Callable[[Options, Path], Report]] = MappingProxyType(
    {
        "training": training.run,
        "views": views.run,
        "skew": skew.run,
        "large": large.run,
        "executors": executors.run,
        "cold": cold.run,
        "materialize": materialize.run,
        "serving": serving.run,
        "serving-profile": serving_profile.run,
        "versions": versions.run,
        "windows": windows.run,
        "windows-length": windows.lengths,
        "windows-lookup": windows_lookup.run,
        "windows-push": windows_push.run,
    }
)
LOADED = {"serving", "serving-profile", "windows-lookup"}
"""Benchmarks whose figures want h2load."""


def main() -> int:
    """Run what the command line names; gives the exit code."""
    given = _arguments()
    feast = not given.without_feast and find_spec("feast") is not None
    options = Options(size=given.size, repeats=given.repeats, feast=feast)
    console = Console(width=80, highlight=False)
    if H2LOAD is None and LOADED & set(given.names or BENCHMARKS):
        console.print(f"[red]missing[/] {MISSING}\n")
    reports = [_timed(name, options, given.out, console) for name in given.names or BENCHMARKS]
    judged = options.size != "tiny"
    outcomes = [one for report in reports for one in report.goals]
    show_goals(outcomes, console, judged=judged)
    failed = [f"{side}: {why}" for report in reports for side, why in report.failed.items()]
    short = [one.complaint() for one in outcomes if one.short] if judged else []
    for kind, lines in (("failed", failed), ("short", short)):
        for line in lines:
            console.print(f"[red]{kind:<6}[/] {line}", soft_wrap=True)
    if not judged:
        console.print("[dim]note[/]   figures of the smallest size are not judged")
    return 1 if failed or short else 0


def _timed(name: str, options: Options, out: Path, console: Console) -> Report:
    """Run one benchmark, print it and write its JSON."""
    began = time.monotonic()
    report = _run(name, options)
    seconds = time.monotonic() - began
    show(report, console)
    file = write(report, out, seconds, options.size)
    console.print(f"[dim]took[/]   {seconds:.0f} s, into {file}\n", soft_wrap=True)
    return report


def _run(name: str, options: Options) -> Report:
    """Run one benchmark in a folder of its own; one that breaks off is reported as failed."""
    try:
        with TemporaryDirectory(prefix=f"bench-{name}-") as folder:
            return BENCHMARKS[name](options, Path(folder))
    except Unequal as problem:
        why = f"the sides answer differently: {problem}"
    except Failed as problem:
        why = problem.why
    return Report(
        name=name,
        size={},
        repeats=options.repeats,
        tables=(),
        checks=(),
        notes=(),
        failed={name: why},
    )


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
