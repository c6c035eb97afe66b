"""The online store: packed rows, table markers, releases and aliases in Redis or Valkey.

Rows stand under `{hash}fs1/<project>/<table>/<canonical key>` (see `keys`); all else under
`fs1/<project>/…`. Calls fail fast: one attempt, a short timeout, and after a timeout the connection
is dropped, so that no reply is read for another call's. A store may be shared by threads.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from itertools import chain, compress, islice, repeat
from operator import is_not
from typing import Any, Self, TypeVar

import numpy as np
import redis
from redis.exceptions import NoScriptError

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    OnlineDataMissing,
    Unavailable,
)
from featurestore.storage.connection import connected
from featurestore.storage.keys import (
    check_alias,
    check_name,
    keys_of,
    redis_keys,
    states_of,
    table_of,
    table_prefix,
)

KEYS_PER_SCRIPT = 500
SCRIPTS_PER_PIPELINE = 16
# One waits for the server while the other packs what it sends.
_SENDERS = 2
_SCAN = 2000
_FOR_EVER = b"for ever"
_ROWS = b"rows"
_DIGITS = 18
"""Of a release's number: more is none of ours, and Python would not read thousands of them."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name by which servers know it."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the script as Redis does."""
        sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)


def _script(name: str) -> Script:
    return Script(files("featurestore.storage").joinpath("lua", name).read_text("utf-8"))


_PUT, _REPAIR, _SWAP, _EXCHANGE, _UNQUEUE = map(
    _script, ("put.lua", "repair.lua", "swap.lua", "exchange.lua", "unqueue.lua")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStore:
    """One project's rows and releases in one Redis; `where` is its address without secrets.

    Every method raises `Unavailable` when Redis cannot be reached, does not answer within the
    timeout, or refuses the call.
    """

    project: str
    where: str
    client: redis.Redis = field(repr=False)

    @classmethod
    def connect(cls, url: str, *, project: str, timeout: float = 1.0) -> Self:
        """Give the store at a URL (`redis://`, `rediss://`, `unix://`); nothing is sent yet.

        `timeout` is in seconds and bounds each connect, each send and each wait for a reply.

        Raises:
            InvalidRequest: the URL or the project's name is not one.
        """
        check_name(project, "project")
        try:
            where, client = connected(url, timeout=timeout)
        except ValueError:
            raise InvalidRequest(
                "online_store.connection_string: not a Redis URL; write redis://host:port/db, and "
                "the signs / ? # @ in a password as %2F %3F %23 %40"
            ) from None
        return cls(project=project, where=where, client=client)

    def close(self) -> None:
        """Close all connections; the store opens new ones when it is used again."""
        self.client.connection_pool.disconnect()

    def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with self._answers():
            self.client.ping()

    def put(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        rows: Sequence[bytes],
        *,
        expire_ms: int | None = None,
        anyway: bool = False,
    ) -> int:
        """Write rows where none or an older one stands; give how many were written.

        Rows compare as bytes, so writers may come in any order and may repeat themselves; a repeat
        at most prolongs the expiry, which counts from this call. `anyway` replaces whatever other
        row stands there, as damaged bytes may look newer than any: for whoever holds the table.
        """
        keys = redis_keys(self.project, table_id, canonical)
        _same_length(keys, rows)
        expiry = b"" if expire_ms is None else str(expire_ms)
        chunks = zip(_chunks(keys), _chunks(rows), strict=True)
        how = "anyway" if anyway else ""
        return self._run(_PUT, (([*chunk], [expiry, how, *values]) for chunk, values in chunks))

    def put_all(
        self,
        table_id: str,
        batches: Iterable[tuple[Sequence[bytes], Sequence[bytes]]],
        *,
        expire_ms: int | None = None,
        anyway: bool = False,
    ) -> int:
        """Write batches of canonical keys and rows as `put` does; a few are held at a time.

        While some are on their way the next are made. If one fails, others may have been written.
        """
        written, sent = 0, deque[Future[int]]()
        with ThreadPoolExecutor(_SENDERS) as senders:
            for keys, rows in batches:
                call = partial(self.put, table_id, keys, rows, expire_ms=expire_ms, anyway=anyway)
                sent.append(senders.submit(call))
                if len(sent) > _SENDERS:
                    written += sent.popleft().result()
            return written + sum(one.result() for one in sent)

    def prolong(self, table_id: str, canonical: Sequence[bytes], *, expire_ms: int | None) -> None:
        """Let what stands under canonical keys live so long from now on at least."""
        keys = redis_keys(self.project, table_id, canonical)
        for chunk in _chunks(keys):
            with self._answers(), self.client.pipeline(transaction=False) as pipeline:
                for key in chunk:
                    if expire_ms is None:
                        pipeline.persist(key)
                    else:
                        pipeline.pexpire(key, expire_ms, gt=True)
                pipeline.execute()

    def repair(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        old_headers: Sequence[bytes],
        rows: Sequence[bytes | None],
    ) -> int:
        """Replace rows that still have these headers, or remove them (None); give how many.

        A row that has moved on is left alone; a replaced one keeps its expiry.
        """
        keys = redis_keys(self.project, table_id, canonical)
        _same_length(keys, old_headers, rows)
        pairs = list(zip(old_headers, (row or b"" for row in rows), strict=True))
        chunks = zip(_chunks(keys), _chunks(pairs), strict=True)
        calls = (([*chunk], [*chain.from_iterable(two)]) for chunk, two in chunks)
        return self._run(_REPAIR, calls)

    def exchange(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        expected: Sequence[bytes | None],
        new: Sequence[bytes | None],
        *,
        expire_ms: int | None = None,
    ) -> list[bool]:
        """Replace values that still begin as expected (None: there is none); say which were.

        A new value of None removes what is there. The expiry counts from this call. Of two that
        expect the same one is written; the other reads again.
        """
        keys = redis_keys(self.project, table_id, canonical)
        _same_length(keys, expected, new)
        expiry = b"" if expire_ms is None else str(expire_ms)
        pairs = list(zip((e or b"" for e in expected), (n or b"" for n in new), strict=True))
        chunks = zip(_chunks(keys), _chunks(pairs), strict=True)
        calls = (([*chunk], [expiry, *chain.from_iterable(two)]) for chunk, two in chunks)
        replies = self._replies(_EXCHANGE, calls)
        return [reply == 1 for reply in chain.from_iterable(replies)]

    def read(
        self, wanted: Sequence[tuple[str, Sequence[bytes | None]]]
    ) -> list[list[bytes | None]]:
        """Give the rows of canonical keys per table, all at one moment; None where there is none.

        Each item of `wanted` is a table id (or that of its window states, `keys.states_of`) and
        canonical keys; a key of None has no row.

        Raises:
            OnlineDataMissing: a table has no marker: Redis was emptied, or it was never loaded.
        """
        tables = list(dict.fromkeys(table_of(table) for table, _ in wanted))
        known = [list(filter(None, canonical)) for _, canonical in wanted]
        places = [redis_keys(self.project, w[0], k) for w, k in zip(wanted, known, strict=True)]
        asked = [*map(self._marker, tables), *chain.from_iterable(places)]
        if not asked:
            return []
        with self._answers():
            found: Iterator[Any] = iter(self.client.mget(asked))
        for table, marker in zip(tables, islice(found, len(tables)), strict=True):
            if marker is None:
                raise self._missing(table)
        return [_placed(canonical, found) for _, canonical in wanted]

    def values(self, table_id: str, canonical: Sequence[bytes]) -> list[bytes | None]:
        """Give what stands under canonical keys, whether or not the table is all here yet."""
        keys = redis_keys(self.project, table_id, canonical)
        if not keys:
            return []
        with self._answers():
            found: Any = self.client.mget(keys)
        return list(found)

    def mark(self, table_id: str, *, expire_ms: int | None = None) -> None:
        """Say that a table's rows are all here: from now on it can be read.

        Every row was written to live this long at least, or for ever; see `keeps`.
        """
        with self._answers():
            self.client.set(self._marker(table_id), _FOR_EVER if expire_ms is None else expire_ms)

    def keeps(self, table_id: str, expire_ms: int | None) -> bool:
        """Say whether a table is here with every row written to live this long, or for ever."""
        with self._answers():
            stored: Any = self.client.get(self._marker(table_id))
        if stored is None or stored == _FOR_EVER:
            return stored is not None
        return expire_ms is not None and stored.isdigit() and int(stored) >= expire_ms

    def is_marked(self, table_id: str) -> bool:
        """Say whether a table's rows are here, rows or none."""
        with self._answers():
            return bool(self.client.exists(self._marker(table_id)))

    def expiries(self, table_ids: Sequence[str]) -> dict[str, int | None]:
        """Give how long rows of tables are kept, milliseconds (None: for ever), of those here."""
        if not table_ids:
            return {}
        with self._answers():
            found: Any = self.client.mget([self._marker(one) for one in table_ids])
        return {
            table: int(stored) if stored.isdigit() else None
            for table, stored in zip(table_ids, found, strict=True)
            if stored is not None
        }

    def queue(self, source: str, entry: bytes) -> None:
        """Add rows pushed to a source to those that wait for its log."""
        with self._answers():
            self.client.xadd(self._key("pushed", source), {_ROWS: entry})

    def queued(self, source: str, *, most: int) -> list[tuple[bytes, bytes]]:
        """Give what waits for a source's log, oldest first: ids and entries."""
        with self._answers():
            found: Any = self.client.xrange(self._key("pushed", source), count=most)
        return [(number, fields.get(_ROWS, b"")) for number, fields in found]

    def unqueue(self, source: str, ids: Sequence[bytes]) -> None:
        """Remove what a source's log has; it may be gone already."""
        self._run(_UNQUEUE, iter([([self._key("pushed", source)], [*ids])] if ids else []))

    def count(self, table_id: str) -> int:
        """Count a table's rows, or its window states, for people: it walks all keys there are."""
        return len(set(chain.from_iterable(self._scan(table_id))))

    def memory(self, table_id: str, canonical: Sequence[bytes]) -> list[int]:
        """Give the bytes of memory that each row which is there takes, its key included."""
        with self._answers(), self.client.pipeline(transaction=False) as pipeline:
            for key in redis_keys(self.project, table_id, canonical):
                pipeline.memory_usage(key)
            found: list[int | None] = pipeline.execute()
        return [used for used in found if used is not None]

    def drop_table(self, table_id: str) -> int:
        """Remove a table's marker, its rows and window states; give how many of them went."""
        with self._answers():
            self.client.unlink(self._marker(table_id))
        removed = 0
        for keys in chain(self._scan(table_id), self._scan(states_of(table_id))):
            with self._answers():
                removed += int(self.client.unlink(*keys))
        return removed

    def put_release(self, number: int, text: str, *, instead: bytes | None = None) -> None:
        """Keep a copy of a release's document; writing it again is nothing.

        `instead` is the damaged copy that it may replace.

        Raises:
            Conflict: another document has this number.
        """
        key, document = self._key("release", str(number)), text.encode()
        if self._run(_SWAP, iter([([key], [instead or b"", document])])):
            return
        if self.release_copy(number) != document:
            raise Conflict(
                f"{self.project}.release.{number}: another document has this number; "
                "releases are written once, take the next number"
            )

    def release(self, number: int) -> str | None:
        """Give a release's document, or None if Redis has no copy; `CorruptData` if no text."""
        stored = self.release_copy(number)
        try:
            return None if stored is None else str(stored, "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptData(
                f"{self.project}.release.{number}: not a release's document; run "
                "`featurestore rebuild-online`"
            ) from error

    def release_copy(self, number: int) -> bytes | None:
        """Give what stands under a release's number, document or not; None for nothing."""
        return self._get(self._key("release", str(number)))

    def drop_releases(self, numbers: Sequence[int]) -> int:
        """Remove the copies of releases that nobody names; give how many went."""
        if not numbers:
            return 0
        with self._answers():
            return int(self.client.unlink(*(self._key("release", str(n)) for n in numbers)))

    def alias(self, name: str) -> int | None:
        """Give the number of the release that an alias names, or None.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
            CorruptData: what is stored is not a number.
        """
        stored = self.alias_copy(name)
        if stored is None:
            return None
        if not stored.isdigit() or len(stored) > _DIGITS:
            raise CorruptData(
                f"{self.project}.alias.{name}: not a release number; run "
                "`featurestore rebuild-online`"
            )
        return int(stored)

    def alias_copy(self, name: str) -> bytes | None:
        """Give what stands under an alias's name, number or not; None for nothing.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
        """
        return self._get(self._alias(name))

    def move_alias(self, name: str, expected: int | bytes | None, to: int) -> bool:
        """Move an alias if it names the expected release (None: none yet); say whether it moved.

        Bytes are expected as they stand there: damage is replaced.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
        """
        before = str(expected) if isinstance(expected, int) else expected or b""
        return self._run(_SWAP, iter([([self._alias(name)], [before, str(to)])])) == 1

    def _get(self, key: bytes) -> bytes | None:
        with self._answers():
            stored: Any = self.client.get(key)
        return None if stored is None else bytes(stored)

    def _key(self, kind: str, name: str) -> bytes:
        return f"fs1/{self.project}/{kind}/{name}".encode()

    def _marker(self, table_id: str) -> bytes:
        table_prefix(self.project, table_id)
        return self._key("marker", table_id)

    def _alias(self, name: str) -> bytes:
        return self._key("alias", check_alias(name))

    def _missing(self, table_id: str) -> OnlineDataMissing:
        return OnlineDataMissing(
            f"{self.project}.{table_id}: its rows are not in Redis at {self.where}: it was emptied "
            "or never loaded; run `featurestore rebuild-online` to bring them back from offline",
            table=table_id,
        )

    def _scan(self, table_id: str) -> Iterator[list[bytes]]:
        pattern = b"{" + b"?" * 16 + b"}" + table_prefix(self.project, table_id) + b"*"
        cursor = -1
        while cursor:
            with self._answers():
                found: Any = self.client.scan(max(cursor, 0), match=pattern, count=_SCAN)
            cursor, keys = found
            # The pattern only saves traffic: what is one of ours is decided by decoding.
            if ours := keys_of(keys, self.project, table_id):
                yield ours

    def _run(self, script: Script, calls: Iterator[tuple[list[bytes], list[Any]]]) -> int:
        return sum(self._replies(script, calls))

    def _replies(
        self, script: Script, calls: Iterator[tuple[list[bytes], list[Any]]]
    ) -> Iterator[Any]:
        """Give what each call replies; it is sent when its reply is asked for."""
        while batch := list(islice(calls, SCRIPTS_PER_PIPELINE)):
            with self._answers():
                replies = self._pipeline("EVALSHA", script.sha, batch)
                unknown = [isinstance(reply, NoScriptError) for reply in replies]
                if any(unknown):
                    again = iter(self._pipeline("EVAL", script.text, [*compress(batch, unknown)]))
                    replies = [
                        next(again) if u else r for r, u in zip(replies, unknown, strict=True)
                    ]
                for reply in replies:
                    if isinstance(reply, Exception):
                        raise reply
            yield from replies

    def _pipeline(
        self, command: str, script: str, batch: list[tuple[list[bytes], list[Any]]]
    ) -> list[Any]:
        send: Callable[..., Any]
        with self.client.pipeline(transaction=False) as pipeline:
            send = pipeline.evalsha if command == "EVALSHA" else pipeline.eval
            for keys, arguments in batch:
                send(script, len(keys), *keys, *arguments)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn what Redis or the network raises into `Unavailable`, without values or secrets."""
        try:
            yield
        except redis.ResponseError as error:
            # Replies can quote arguments: only the error's code, its first word, is repeated.
            code = "OOM" if isinstance(error, redis.OutOfMemoryError) else str(error).split(" ")[0]
            raise Unavailable(
                f"online_store: Redis at {self.where} refused the call ({code}); see its log and "
                "limits (maxmemory, user rights, version 7.0 or later)"
            ) from None
        except redis.RedisError as error:
            raise Unavailable(
                f"online_store: Redis at {self.where} cannot be reached ({type(error).__name__}); "
                "check that it runs and that online_store.connection_string, or "
                "FEATURESTORE_REDIS_URL, names it"
            ) from error


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[at : at + KEYS_PER_SCRIPT] for at in range(0, len(items), KEYS_PER_SCRIPT))


def _same_length(*lists: Sequence[object]) -> None:
    if len(set(map(len, lists))) > 1:
        raise ValueError("keys and rows are not of one length")


def _placed(canonical: Sequence[bytes | None], found: Iterator[bytes | None]) -> list[bytes | None]:
    if None not in canonical:
        return list(islice(found, len(canonical)))
    there = np.fromiter(map(is_not, canonical, repeat(None)), np.bool_, len(canonical))
    rows = np.full(len(canonical), None, object)
    rows[there] = list(islice(found, int(there.sum())))
    placed: list[bytes | None] = rows.tolist()
    return placed
