"""How the benchmarks were asked to run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size by name, how often each side runs, and whether Feast is among the sides."""

    size: Literal["tiny", "default", "full"] = "default"
    repeats: int = 3
    feast: bool = True
