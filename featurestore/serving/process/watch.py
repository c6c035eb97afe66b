"""Keeps a server on the release its alias names, and knows whether it can answer."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featurestore.errors import FeatureStoreError, NotMaterialized, OnlineDataMissing
from featurestore.serving.answer.state import State, read_release, state_of
from featurestore.serving.process.log import NAME, told
from featurestore.storage.redis import OnlineStore

_LOG = logging.getLogger(NAME)
_PATIENCE = 5.0
"""Seconds that a look may take."""
_SELDOM = 5.0
"""Seconds after which Redis is asked again what it threw away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The release loaded, if any, and what keeps the server from answering, if anything does.

    `evicted` are the keys that Redis threw away to make room, since it started.
    """

    state: State | None
    trouble: FeatureStoreError | None
    evicted: int = 0

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return self.state is not None and self.trouble is None


class Watch:
    """Looks every `interval` seconds, in a thread of its own, and publishes a whole `Standing`.

    What is `beside` is called as often.
    """

    def __init__(
        self,
        store: OnlineStore,
        *,
        project: str,
        alias: str,
        interval: float,
        changed: Callable[[Standing], None],
        beside: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._store = store
        self._project = project
        self._alias = alias
        self._interval = interval
        self._changed = changed
        self._beside = tuple(beside)
        self._again = 0.0
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="featurestore-watch", daemon=True)
        self.standing = Standing(state=None, trouble=None)

    def start(self) -> None:
        """Look once, then keep looking in the background."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def hurry(self) -> None:
        """Look again now: a request met trouble."""
        self._wake.set()

    def look(self) -> None:
        """Read the alias, load its release if it moved, and check that its tables are there."""
        before = self.standing
        state, trouble, evicted = before.state, None, before.evicted
        # Each wait is bounded, but not how many there are: Redis may send a byte at a time.
        store = self._store.within(_PATIENCE)
        try:
            state = self._current(before.state, store)
            self._check(state, store)
            evicted = self._evicted(store)
        except FeatureStoreError as error:
            trouble = error
        standing = Standing(state=state, trouble=trouble, evicted=evicted)
        self.standing = standing
        self._tell(before, standing)
        same = state is before.state and evicted == before.evicted
        if not same or standing.ready != before.ready:
            self._changed(standing)

    def _tell(self, before: Standing, standing: Standing) -> None:
        state, trouble = standing.state, standing.trouble
        if str(trouble) != str(before.trouble) or state is not before.state:
            number = None if state is None else state.release.number
            named = f"{self._project}, {self._alias}"
            if trouble is None:
                said = told("release", alias=self._alias, release=number)
                _LOG.info("%s: SERVING release %s", named, number, extra=said)
            else:
                said = told("trouble", alias=self._alias, error=type(trouble).__name__)
                _LOG.warning("%s: NOT_SERVING: %s", named, trouble, extra=said)
        if standing.evicted > before.evicted:
            _LOG.error(
                "%s: Redis threw %d keys away to make room: rows may be missing, and be answered "
                "NOT_FOUND; set its maxmemory-policy to noeviction, give it memory, and run "
                "`featurestore rebuild-online`", self._project, standing.evicted,
                extra=told("evicted", keys=standing.evicted),
            )  # fmt: skip

    def _evicted(self, store: OnlineStore) -> int:
        """Give what Redis threw away; as before where it was asked a moment ago."""
        if time.monotonic() < self._again:
            return self.standing.evicted
        self._again = time.monotonic() + _SELDOM
        return store.evicted()

    def _current(self, state: State | None, store: OnlineStore) -> State:
        number = store.alias(self._alias)
        if number is None:
            raise NotMaterialized(
                f"{self._project}: Redis has no alias {self._alias!r}: nothing was promoted yet, "
                "or Redis was emptied; run `featurestore promote`, or to bring back what was lost "
                "`featurestore rebuild-online`"
            )
        if state is not None and state.release.number == number:
            return state
        text = store.release(number)
        if text is None:
            raise NotMaterialized(
                f"{self._project}: alias {self._alias!r} names release {number}, which is not in "
                "Redis; run `featurestore promote`"
            )
        return state_of(read_release(text, project=self._project))

    def _check(self, state: State, store: OnlineStore) -> None:
        missing = [table for table in state.tables if not store.is_marked(table)]
        if missing:
            raise OnlineDataMissing(
                f"{self._project}: rows of table {missing[0]} are not in Redis: it was emptied; "
                "run `featurestore rebuild-online` to bring them back from offline"
            )

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait(self._interval)
            self._wake.clear()
            if not self._ended.is_set():
                for look in self._beside:
                    look()
                self.look()
