"""What a request passes on its way: who watches it may time it, count it or stop it."""

from typing import TYPE_CHECKING

from featurestore.serving.answer.plan import Plan

if TYPE_CHECKING:
    from featurestore.serving.answer.state import Wanted

QUEUE, PARSE, REDIS, COMPUTE, ENCODE = range(5)
"""The stages of a lookup, in order."""


class Trace:
    """Lets everything pass and keeps nothing; a server's own one is in `calls`."""

    __slots__ = ()

    def mark(self, stage: int) -> None:
        """Say that a stage ends here: what passed since the last mark was its time."""

    def wanted(self, wanted: "Wanted") -> None:
        """Say what is asked for, before it is looked for."""

    def planned(self, plan: Plan, rows: int) -> None:
        """Say what it takes to answer, before it is read."""

    def answered(self, statuses: bytes, event_times: bytes, as_of: int) -> None:
        """Say an answer's statuses and event times (UTC µs, 0: none) as they travel."""


UNWATCHED = Trace()
