"""The same training set by local workers and by Ray's, two each: equal frames, and what Ray adds.

Each side builds it twice in one process: the first time may start workers (`first s`), the second
finds them there (`seconds`). The memory is the asking process's; Ray's own are not in it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from answers import compared, read_spine
from dataset import Size
from goals import Goal
from joins import OURS, prepared
from options import Options
from process import redis_server
from report import Measure, Report
from sides import MEASURES, Goals, Measured, Side, in_turn, part, report

SIZES = {
    "tiny": Size(rows=2_000, keys=40, features=10, spine=500),
    "default": Size(rows=1_000_000, keys=20_000, features=20, spine=200_000),
    "full": Size(rows=10_000_000, keys=200_000, features=20, spine=2_000_000),
}
WORKERS = 2
LOCAL, RAY = f"{OURS}, local", f"{OURS}, Ray"
FIRST = Measure(name="first s", digits=3)


def run(options: Options, folder: Path) -> Report:
    """Run both in turn and compare their frames value for value."""
    size = SIZES[options.size]
    work = f"Ray's {WORKERS} workers against local: {size}"
    goals: Goals = {
        Goal(work=work, figure="equal frames (1 is yes)", better="more", must=1, digits=0): _equal,
        Goal(work=work, figure="of local's time"): partial(Measured.ratio, side=RAY, other=LOCAL),
        Goal(work=work, figure="seconds more, Ray's start included"): _overhead,
    }
    with redis_server(folder / "online") as url:
        made = part(
            f"Executors: {size}",
            goals,
            partial(_measured, options, folder / "data", url),
            (*MEASURES, FIRST),
        )
    notes = (f"ratio: seconds over those of '{LOCAL}'; {WORKERS} workers each",)
    return report("executors", size.plain(), options.repeats, [made], notes)


def _measured(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    join = prepared(SIZES[options.size], folder, url)
    sides = [
        replace(join.ours(name, case, workers=WORKERS), against=LOCAL)
        for name, case in ((LOCAL, "local"), (RAY, "ray"))
    ]
    compare = partial(compared, reference=LOCAL, spine=read_spine(folder))
    return in_turn(sides, options.repeats, folder, compare), sides


def _equal(found: Measured) -> float:
    """Give 1 if both gave frames: had these differed, nothing would have been measured."""
    found.ratio(RAY, LOCAL)
    return 1.0


def _overhead(found: Measured) -> float:
    return found.median(RAY, FIRST.name) - found.median(LOCAL, FIRST.name)
