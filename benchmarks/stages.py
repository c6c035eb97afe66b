"""The stages of a lookup in our handler, and a clock that says how long each took.

Imports nothing heavy: processes under measurement import this.
"""

import time
from collections.abc import Callable
from statistics import median

(
    PARSE,
    KEYS,
    COMMAND,
    SOCKET,
    REPLY,
    ROWS,
    STATUSES,
    DEMAND,
    ENCODE,
    METRICS,
    REST,
) = STAGES = (
    "parse",
    "keys",
    "command",
    "socket",
    "replies",
    "rows",
    "statuses",
    "on-demand",
    "encode",
    "metrics",
    "rest",
)
REDIS = (COMMAND, SOCKET, REPLY)
SUM, WHOLE = "sum of stages", "whole call"
WALL, PROCESSOR = "wall", "CPU"
CLOCKS = {WALL: time.perf_counter_ns, PROCESSOR: time.process_time_ns}
"""Nanoseconds that pass, and those of processor time: all of the process's, Polars' thread too."""

_TRIES = 2_000


class Clock:
    """Says which stage the time that passes belongs to: one at a time, from one thread."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._spent = dict.fromkeys(STAGES, 0)
        self._changes = dict.fromkeys(STAGES, 0)
        self._stage = REST
        self._since = now()

    def to(self, stage: str) -> str:
        """Begin a stage; give the one that it ends."""
        now, before = self._now(), self._stage
        self._spent[before] += now - self._since
        self._changes[before] += 1
        self._stage, self._since = stage, now
        return before

    def began(self) -> None:
        """Begin a call."""
        for stage in STAGES:
            self._spent[stage] = self._changes[stage] = 0
        self._stage, self._since = REST, self._now()

    def ended(self, change: float) -> dict[str, float]:
        """End a call; give each stage's nanoseconds, without what the changes of stage took."""
        self.to(REST)
        return {
            stage: max(self._spent[stage] - self._changes[stage] * change, 0.0) for stage in STAGES
        }

    def change(self, within: Callable[[], object]) -> float:
        """Give the nanoseconds that one of the two changes takes which something does."""
        took = []
        for _ in range(_TRIES):
            self.began()
            within()
            self.to(REST)
            # The last change is this one's, and has no call around it.
            took.append(sum(self._spent.values()) / sum(self._changes.values()))
        return median(took)
