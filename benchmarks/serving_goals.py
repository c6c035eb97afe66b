"""What serving must reach, and how each figure is made of what was measured."""

from collections.abc import Callable, Sequence
from functools import partial

from goals import Goal
from load import RATE
from peers import BARE, CPU, GRPC, HTTP, OURS
from sides import Goals, Measured
from works import HUNDRED, MANY, ONE, TEXTS, Work

MEDIAN, SLOW = "p50 ms", "p99 ms"
PLAIN, DERIVED = "without", "with an on-demand view"
START, LOADED, HELD = "seconds to SERVING", "MB under load", "bytes an entity"
FEAST = "Feast"
CREWS = {1: "1 worker", 2: "2 workers"}
SERVER, TAKEN = "server's cores", "client's cores"
SHARE = 0.3
"""Of our saturation: the rate that an open loop offers."""


def named(name: str, work: Work) -> str:
    """Name a side of a work."""
    return f"{name}, {work.label}"


def rate_goals(wide: Sequence[Work]) -> Goals:
    """Give the goals of throughput at saturation; `wide` are one entity's and many's."""
    goals: dict[Goal, Callable[[Measured], float]] = {}
    for work, must, reach, times in ((ONE, 0.55, 0.75, 20), (HUNDRED, 0.45, 0.6, 150)):
        goals |= {
            _more(work, "of the bare handler's req/s", must, reach): _ratio(work, BARE),
            _more(work, "times Feast HTTP's req/s", times, digits=0): _ratio(work, HTTP),
            _more(work, "times Feast gRPC's req/s", digits=0): _ratio(work, GRPC),
        }
    goals |= {
        _more(TEXTS, "times Feast HTTP's req/s", 40, digits=0): _ratio(TEXTS, HTTP),
        _more(TEXTS, "times Feast gRPC's req/s", digits=0): _ratio(TEXTS, GRPC),
    }
    one, many = wide
    for work, than, what in ((MANY, HUNDRED, "value"), (one, ONE, "key"), (many, one, "value")):
        goal = Goal(
            work=f"Serving: {work.label}",
            figure=f"seconds a {what}, of those at {than.label}",
            must=1.0,
        )
        goals[goal] = partial(_linear, work=work, than=than, what=what)
    return goals


def _more(
    work: Work, figure: str, must: float | None = None, reach: float | None = None, digits: int = 2
) -> Goal:
    return Goal(
        work=f"Serving: {work.label}",
        figure=figure,
        better="more",
        must=must,
        reach=reach,
        digits=digits,
    )


def _ratio(work: Work, other: str) -> "partial[float]":
    return partial(_of, work=work, other=other)


def _of(found: Measured, work: Work, other: str) -> float:
    return found.ratio(named(OURS, work), named(other, work), RATE)


def _linear(found: Measured, work: Work, than: Work, what: str) -> float:
    """Divide seconds a request by what it asks for, and that by the other work's."""

    def each(one: Work) -> float:
        asked = one.values if what == "value" else one.keys
        return 1 / found.median(named(OURS, one), RATE) / asked

    return each(work) / each(than)


def added_goals() -> Goals:
    """Give the goals of what an on-demand view adds."""
    return {
        Goal(
            work="Serving: an on-demand view of 5 expressions beside 50 features",
            figure=f"added {MEDIAN}, {work.label}",
            must=0.5,
            reach=0.25,
        ): partial(_added, work=work)
        for work in (ONE, HUNDRED)
    }


def _added(found: Measured, work: Work) -> float:
    beside, plain = (found.median(named(name, work), MEDIAN) for name in (DERIVED, PLAIN))
    return beside - plain


def open_goals() -> Goals:
    """Give the goals of an open loop."""
    return {
        Goal(
            work=f"Serving: open loop at {SHARE:.0%} of our saturation",
            figure=f"{SLOW}, of the bare handler's, {work.label}",
            must=3.0,
            reach=2.0,
        ): partial(_tail, work=work)
        for work in (ONE, HUNDRED)
    }


def _tail(found: Measured, work: Work) -> float:
    return found.ratio(named(OURS, work), named(BARE, work), SLOW)


def crew_goals() -> Goals:
    """Give the figures of two workers against one, which are reported."""
    work = "Serving: 2 workers against 1, client and Redis beside them"
    return {
        Goal(work=work, figure="times one worker's req/s", better="more"): (
            lambda found: found.ratio(CREWS[2], CREWS[1], RATE)
        ),
        Goal(work=work, figure="CPU ms of a request, of one worker's"): (
            lambda found: found.ratio(CREWS[2], CREWS[1], CPU)
        ),
    }


def start_goals() -> Goals:
    """Give the goals of a worker's start and memory."""
    work = "Serving: a worker"
    return {
        Goal(work=work, figure=START, must=1.5, reach=1.0): (
            lambda found: found.median(OURS, START)
        ),
        Goal(work=work, figure=f"resident {LOADED}", must=150, digits=0): (
            lambda found: found.most(OURS, LOADED)
        ),
    }


def held_goals() -> Goals:
    """Give the goals of what an entity takes in Redis."""
    goal = Goal(
        work="Serving: 50 float32 of an entity in Redis",
        figure=f"{HELD}, of Feast's",
        must=0.5,
        reach=0.4,
    )
    return {goal: lambda found: found.ratio(OURS, FEAST, HELD)}
