"""A cold process: from its start to the answer of a first small join, imports included.

The files are in the system's page cache; nothing of the process is.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from answers import compared, read_spine
from columns import SERVICE, SPINE
from dataset import Size
from goals import Goal
from joins import FLOOR, OURS, Join, prepared
from options import Options
from process import redis_server, run_case
from report import Measure, Report
from sides import SECONDS, Measured, Sample, Side, in_turn, part, report

SIZES = {
    "tiny": Size(rows=1_000, keys=40, features=10, spine=100),
    "default": Size(rows=10_000, keys=100, features=10, spine=1_000),
    "full": Size(rows=10_000, keys=100, features=10, spine=1_000),
}


def run(options: Options, folder: Path) -> Report:
    """Start the process as often as asked; compare its answer with a plain join's."""
    size = SIZES[options.size]
    goal = Goal(work=f"cold process: {size}", figure="seconds", must=1.5, reach=1.0)
    with redis_server(folder / "online") as url:
        made = part(
            f"Cold process: {size}",
            {goal: partial(Measured.median, side=OURS, measure=SECONDS)},
            partial(_measured, options, folder / "data", url),
            (Measure(name=SECONDS, digits=3),),
        )
    notes = ("from the process's start to the answer in memory, imports included",)
    return report("cold", size.plain(), options.repeats, [made], notes)


def _measured(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    join = prepared(SIZES[options.size], folder, url)
    ours = Side(name=OURS, run=partial(_started, join))
    compare = partial(compared, reference=FLOOR, spine=read_spine(folder))
    return in_turn([ours, join.floor()], options.repeats, folder, compare), [ours]


def _started(join: Join, answer: Path) -> Sample:
    asked: dict[str, Any] = {"repo": join.folder / "repo", "url": join.url, "service": SERVICE}
    began = time.monotonic()
    told = run_case("cold.py", "start", **asked, spine=join.folder / SPINE, keep=answer)
    return {SECONDS: told["answered"] - began}
