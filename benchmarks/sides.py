"""Sides of a benchmark, run in turn on the same data, their answers compared before their times."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from goals import Goal, Reached, reached
from process import Failed, gathered, run_case
from report import Case, Measure, Report, Table, Unequal

SECONDS, PEAK = "seconds", "peak MiB"
MEASURES = (
    Measure(name=SECONDS, digits=3),
    Measure(name=PEAK, digits=0),
    Measure(name="MiB before", digits=0),
)

Sample = dict[str, float]
Compare = Callable[[Mapping[str, Path]], Sequence[str]]
"""Compares the answers of one turn, by side, and says what was found equal; raises Unequal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side: `run` takes the file for its answer and gives what it measured.

    `against` names the side whose time its own is a ratio of.
    """

    name: str
    run: Callable[[Path], Sample]
    against: str | None = None


def case(script: str, name: str, **arguments: Any) -> Callable[[Path], Sample]:
    """Give a side's `run`: a case of a script with its arguments; the answer's file is `keep`."""
    return _Run(script=script, name=name, arguments=arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    script: str
    name: str
    arguments: dict[str, Any]

    def __call__(self, answer: Path) -> Sample:
        return run_case(self.script, self.name, **self.arguments, keep=answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the sides measured, and why those failed that did."""

    samples: Mapping[str, Sequence[Sample]]
    failed: Mapping[str, str]
    checks: tuple[str, ...]

    def of(self, side: str, measure: str) -> list[float]:
        """Give all samples of a side's measure.

        Raises:
            LookupError: the side was not measured; the message says why.
        """
        if side in self.failed or not self.samples.get(side):
            raise LookupError(f"{side}: {self.failed.get(side, 'left out')}")
        return [one[measure] for one in self.samples[side]]

    def median(self, side: str, measure: str) -> float:
        """Give the median of a side's measure; raises as `of` does."""
        return median(self.of(side, measure))

    def most(self, side: str, measure: str) -> float:
        """Give the greatest sample of a side's measure; raises as `of` does."""
        return max(self.of(side, measure))

    def ratio(self, side: str, other: str, measure: str = SECONDS) -> float:
        """Give one side's median over another's; raises as `of` does."""
        return self.median(side, measure) / self.median(other, measure)

    def table(self, title: str, sides: Sequence[Side], measures: Sequence[Measure]) -> Table:
        """Give the medians side by side."""
        return Table(
            title=title,
            measures=tuple(measures),
            cases=tuple(
                Case(name=s.name, samples=gathered(self.samples[s.name]), against=s.against)
                for s in sides
                if self.samples.get(s.name)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one piece of a benchmark's work gave, for its report."""

    tables: tuple[Table, ...] = ()
    checks: tuple[str, ...] = ()
    goals: tuple[Reached, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


Goals = Mapping[Goal, Callable[[Measured], float]]
"""Goals with how each one's figure is had."""


def part(
    title: str,
    goals: Goals,
    measure: Callable[[], tuple[Measured, Sequence[Side]]],
    measures: Sequence[Measure] = MEASURES,
) -> Part:
    """Measure a piece of work. Where it breaks off, each goal keeps the reason; others go on."""
    try:
        measured, sides = measure()
    except (Failed, Unequal) as problem:
        why = problem.why if isinstance(problem, Failed) else f"answers differ: {problem}"
        return Part(failed={title: why}, goals=tuple(Reached(goal=goal, why=why) for goal in goals))
    return Part(
        tables=(measured.table(title, sides, measures),) if measured.samples else (),
        checks=measured.checks,
        goals=tuple(reached(goal, partial(figure, measured)) for goal, figure in goals.items()),
        failed={f"{title}: {side}": why for side, why in measured.failed.items()},
    )


def report(
    name: str, size: Mapping[str, int], repeats: int, parts: Sequence[Part], notes: Sequence[str]
) -> Report:
    """Put the parts of a benchmark into its report."""
    return Report(
        name=name,
        size=size,
        repeats=repeats,
        tables=tuple(chain.from_iterable(one.tables for one in parts)),
        checks=tuple(chain.from_iterable(one.checks for one in parts)),
        notes=tuple(notes),
        goals=tuple(chain.from_iterable(one.goals for one in parts)),
        failed=dict(chain.from_iterable(one.failed.items() for one in parts)),
    )


def in_turn(sides: Sequence[Side], repeats: int, folder: Path, compare: Compare) -> Measured:
    """Run every side once, then every side again, as often as asked (A B C A B C).

    A side that fails is left out from then on, and what it measured before is dropped.

    Raises:
        Unequal: two sides answer differently.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    failed: dict[str, str] = {}
    checks: dict[str, None] = {}
    for turn in range(repeats):
        answers: dict[str, Path] = {}
        for number, side in enumerate(sides):
            if side.name in failed:
                continue
            answer = folder / f"answer{turn}-{number}.parquet"
            try:
                samples[side.name].append(side.run(answer))
                answers[side.name] = answer
            except Failed as problem:
                failed[side.name] = problem.why
                samples.pop(side.name)
        checks |= dict.fromkeys(compare(answers))
        for answer in answers.values():
            answer.unlink(missing_ok=True)
    return Measured(samples=samples, failed=failed, checks=tuple(checks))
