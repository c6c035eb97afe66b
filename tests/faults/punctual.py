"""Whether calls end by their deadlines, on a machine that may stand still at any moment itself."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

GRACE = 0.05
"""Seconds by which a call may outlive its deadline."""

SCENES = 3
_NAP, _STALL = 0.002, 0.015


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A call: when it began and ended (`time.monotonic`), what it was given, and what came."""

    began: float
    ended: float
    deadline: float
    outcome: object

    @property
    def late(self) -> float:
        """By how much it outlived its deadline, seconds."""
        return self.ended - self.began - self.deadline


@dataclass(slots=True)
class Scene:
    """Calls that were timed, and the moments at which this machine was seen to stand still."""

    calls: list[Timed] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[Self]:
        """Sleep a little, again and again, for the length of a block: what oversleeps is a stall.

        Nothing but the machine (or who holds the interpreter) keeps a sleeper from waking.
        """
        over = threading.Event()

        def sleep() -> None:
            before = time.monotonic()
            while not over.is_set():
                time.sleep(_NAP)
                now = time.monotonic()
                if now - before > _NAP + _STALL:
                    self.stalls.append((before, now))
                before = now

        thread = threading.Thread(target=sleep)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()

    @contextmanager
    def timing(self, deadline: float, outcome: Callable[[], object]) -> Iterator[None]:
        """Time a call; what came of it is asked for when it has ended."""
        began = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            self.calls.append(Timed(began=began, ended=ended, deadline=deadline, outcome=outcome()))

    @property
    def late(self) -> list[Timed]:
        """The calls that outlived their deadlines by more than they may."""
        return [call for call in self.calls if call.late > GRACE]

    @property
    def excused(self) -> bool:
        """Whether the machine was seen to stand still during each call that was late."""
        return all(
            any(start < call.ended and call.began < end for start, end in self.stalls)
            for call in self.late
        )


def punctual(play: Callable[[Scene], None]) -> Scene:
    """Play a scene in which no call may outlive its deadline; give what was timed.

    A scene is played again, a few times at most, only if the machine was seen to stand still in
    the very moment of each call that was late.
    """
    for _ in range(SCENES):
        scene = Scene()
        with scene.watched():
            play(scene)
        assert scene.calls
        if not scene.late:
            return scene
        told = [(call.deadline, round(call.late, 3), str(call.outcome)) for call in scene.late]
        assert scene.excused, told
    raise AssertionError(told)
