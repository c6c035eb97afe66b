"""What a benchmark must reach, what it reaches for, and whether it did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure with its bound: at least (`more` is better) or at most (`less` is).

    `must` is None for what is only reached for, or only reported.
    """

    work: str
    figure: str
    better: Literal["more", "less"] = "less"
    must: float | None = None
    reach: float | None = None
    digits: int = 2

    def met(self, value: float, bound: float) -> bool:
        """Say whether a value is within a bound."""
        return value >= bound if self.better == "more" else value <= bound

    def told(self, bound: float | None) -> str:
        """Write a bound as people read it."""
        sign = "≥" if self.better == "more" else "≤"
        return "" if bound is None else f"{sign} {bound:,.{self.digits}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """The figure that was measured for a goal, or why there is none."""

    goal: Goal
    value: float | None = None
    why: str = ""

    @property
    def short(self) -> bool:
        """Say whether the goal had to be reached and was not; no figure is short of any goal."""
        must = self.goal.must
        return must is not None and (self.value is None or not self.goal.met(self.value, must))

    @property
    def verdict(self) -> str:
        """Give one word, or none: short, none (no figure), met, reached (what is reached for)."""
        if self.short:
            return "short"
        if self.value is None:
            return "none"
        if self.goal.reach is not None and self.goal.met(self.value, self.goal.reach):
            return "reached"
        return "" if self.goal.must is None else "met"

    def told(self) -> str:
        """Write the figure as people read it."""
        return "none" if self.value is None else f"{self.value:,.{self.goal.digits}f}"

    def complaint(self) -> str:
        """Say in a line what falls short and by how much, or why it could not be measured."""
        found = f"not measured: {self.why}" if self.value is None else self.told()
        return (
            f"{self.goal.work}: {self.goal.figure}: {found}; must {self.goal.told(self.goal.must)}"
        )


def reached(goal: Goal, figure: Callable[[], float]) -> Reached:
    """Take a figure for a goal; one that cannot be had keeps the reason.

    `figure` raises LookupError with the reason where one of its sides was not measured.
    """
    try:
        return Reached(goal=goal, value=figure())
    except LookupError as error:
        return Reached(goal=goal, why=str(error.args[0]))
