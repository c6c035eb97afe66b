"""The online store: packed rows, window states and table markers in Redis.

Rows stand under `{hash}fs1/<project>/<table>/<canonical key>` (see `keys`); all else under
`fs1/<project>/…`. A marker says that a table's rows are here. On a cluster each slot has one, under
`{tag}fs1/<project>/marker/<table>`: a server that lost its rows lost their markers too, and a slot
that moves takes its own along.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from operator import is_not

import numpy as np

from featurestore.errors import OnlineDataMissing, Unavailable
from featurestore.storage.cluster import SLOTS, Cluster, last_slots, slot_of, tags
from featurestore.storage.keys import (
    keys_of,
    pushed_of,
    redis_keys,
    states_of,
    table_of,
    table_prefix,
    tags_of,
)
from featurestore.storage.published import Published
from featurestore.storage.server import script
from featurestore.storage.states import HEAD_BYTES, NUMBERS_AT

KEYS_PER_SCRIPT = 500
# One waits for the server while the other packs what it sends.
_SENDERS = 2
_SCAN = 2000
_FOR_EVER = b"for ever"
_ROWS = b"rows"

_LOOKS = 3
"""How often a read begins anew when the cluster's slots move under it."""

_PUT, _REPAIR, _FRONTS, _EXCHANGE, _UNQUEUE = map(
    script, ("put.lua", "repair.lua", "fronts.lua", "exchange.lua", "unqueue.lua")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineStore(Published):
    """One project's rows, window states and releases in one Redis."""

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
        how = "anyway" if anyway else ""
        cut = self.cut(keys, KEYS_PER_SCRIPT)
        names, values = cut.laid(keys), cut.laid(rows)
        return self.run(_PUT, ((names[one], [expiry, how, *values[one]]) for one in cut.slices))

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
        how = ("PEXPIRE", expire_ms, "GT") if expire_ms is not None else ("PERSIST",)
        for at in range(0, len(keys), _SCAN):
            self.ask([(key, (how[0], key, *how[1:])) for key in keys[at : at + _SCAN]])

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
        cut = self.cut(keys, KEYS_PER_SCRIPT)
        names, values = cut.laid(keys), cut.laid(pairs)
        calls = ((names[one], [*chain.from_iterable(values[one])]) for one in cut.slices)
        return self.run(_REPAIR, calls)

    def fronts(
        self, table_id: str, canonical: Sequence[bytes]
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        """Give the fronts of entities' window states, and what was pushed to them; None for none.

        See `storage.states`.
        """
        states, pushed = self._of_windows(table_id, canonical)
        cut = self.cut(states, KEYS_PER_SCRIPT // 2)
        pairs = cut.laid(list(zip(states, pushed, strict=True)))
        calls = (
            ([*chain.from_iterable(pairs[one])], [HEAD_BYTES, NUMBERS_AT]) for one in cut.slices
        )
        found = [reply or None for reply in chain.from_iterable(self.replies(_FRONTS, calls))]
        return list(cut.placed(found[::2])), list(cut.placed(found[1::2]))

    def put_pushed(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        expected: Sequence[tuple[bytes | None, bytes | None]],
        pushed: Sequence[bytes | None],
        *,
        expire_ms: int | None = None,
    ) -> list[bool]:
        """Write what was pushed where state and pushed ones begin as expected; say where they did.

        None stands for nothing there. The expiry counts from this call. Of two writers that expect
        the same one writes; the other reads again.
        """
        parts = ((*pair, new) for pair, new in zip(expected, pushed, strict=True))
        return self._exchange(table_id, canonical, parts, "push", expire_ms)

    def put_states(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        expected: Sequence[bytes | None],
        new: Sequence[tuple[bytes | None, bytes | None]],
        *,
        expire_ms: int | None = None,
    ) -> list[bool]:
        """Write states and pushed ones where the pushed ones begin as expected; see `put_pushed`.

        Whatever state is there is replaced.
        """
        parts = ((pair[0], was, pair[1]) for was, pair in zip(expected, new, strict=True))
        return self._exchange(table_id, canonical, parts, "build", expire_ms)

    def _exchange(
        self,
        table_id: str,
        canonical: Sequence[bytes],
        parts: Iterable[tuple[bytes | None, bytes | None, bytes | None]],
        how: str,
        expire_ms: int | None,
    ) -> list[bool]:
        states, pushed = self._of_windows(table_id, canonical)
        triples = list(parts)
        _same_length(states, triples)
        expiry = b"" if expire_ms is None else str(expire_ms)
        cut = self.cut(states, KEYS_PER_SCRIPT // 2)
        pairs, values = cut.laid(list(zip(states, pushed, strict=True))), cut.laid(triples)
        calls = (
            (
                [*chain.from_iterable(pairs[one])],
                [expiry, how, *(value or b"" for value in chain.from_iterable(values[one]))],
            )
            for one in cut.slices
        )
        found = list(chain.from_iterable(self.replies(_EXCHANGE, calls)))
        return [reply == 1 for reply in cut.placed(found)]

    def _of_windows(
        self, table_id: str, canonical: Sequence[bytes]
    ) -> tuple[list[bytes], list[bytes]]:
        """Give the keys of each entity's window state, and of what was pushed to it."""
        states = redis_keys(self.project, states_of(table_id), canonical)
        return states, redis_keys(self.project, pushed_of(table_id), canonical)

    def read(
        self,
        wanted: Sequence[tuple[str, Sequence[bytes | None]]],
        *,
        timeout: float | None = None,
    ) -> list[list[bytes | None]]:
        """Give the rows of canonical keys per table, all at one moment; None where there is none.

        Each item of `wanted` is a table id (or what `keys.states_of` and `keys.pushed_of` make of
        it) and canonical keys; a key of None has no row. `timeout` is how long the whole call may
        take, seconds. On a cluster the moment is one for all rows of an entity.

        Raises:
            OnlineDataMissing: a table has no marker: Redis was emptied, or it was never loaded.
        """
        until = None if timeout is None else time.monotonic() + timeout
        tables = list(dict.fromkeys(table_of(table) for table, _ in wanted))
        # Views of one entity are asked for by one list of keys, which is hashed once.
        entities = {id(canonical): _tagged(canonical) for _, canonical in wanted}
        places = [redis_keys(self.project, w[0], *entities[id(w[1])]) for w in wanted]
        if isinstance(self.nodes, Cluster):
            keys = [*chain.from_iterable(places)]
            found = iter(self._spread(self.nodes, tables, keys, until))
        else:
            asked = [*map(self._marker, tables), *chain.from_iterable(places)]
            found = iter(self.gather("MGET", asked, until=until))
        for table, marker in zip(tables, islice(found, len(tables)), strict=True):
            if marker is None:
                raise self._missing(table)
        return [_placed(canonical, found) for _, canonical in wanted]

    def _spread(
        self, nodes: Cluster, tables: Sequence[str], keys: Sequence[bytes], until: float | None
    ) -> list[bytes | None]:
        """Give tables' markers, each None if any server that is asked lacks it, and keys' values.

        With the first slot that is read of a server its markers are read. Should slots turn out to
        be another server's, whose markers were not, all is read again.
        """
        for _ in range(_LOOKS):
            moves, owners = nodes.moves, self.owners(nodes, until)
            slots = list(map(slot_of, keys)) or last_slots(owners)[:1]
            first = {owners[slot]: slot for slot in reversed(slots)}
            markers = [self._marker(one, slot) for slot in first.values() for one in tables]
            found = self.gather("MGET", [*markers, *keys], until=until)
            if nodes.moves == moves:
                there = [found[at : len(markers) : len(tables)] for at in range(len(tables))]
                marked = [None if None in some else _FOR_EVER for some in there]
                return [*marked, *found[len(markers) :]]
        raise Unavailable(
            f"online_store: Redis at {self.where} moves its slots faster than they are read; "
            "try again"
        )

    def values(self, table_id: str, canonical: Sequence[bytes]) -> list[bytes | None]:
        """Give what stands under canonical keys, whether or not the table is all here yet."""
        return list(self.gather("MGET", redis_keys(self.project, table_id, canonical)))

    def mark(self, table_id: str, *, expire_ms: int | None = None) -> None:
        """Say that a table's rows are all here: from now on it can be read.

        Every row was written to live this long at least, or for ever; see `keeps`.
        """
        value = _FOR_EVER if expire_ms is None else expire_ms
        self.ask([(key, ("SET", key, value)) for key in self._markers(table_id)])

    def keeps(self, table_id: str, expire_ms: int | None) -> bool:
        """Say whether a table is here with every row written to live this long, or for ever."""
        kept = self.expiries([table_id]).get(table_id, 0)
        return kept is None or (expire_ms is not None and kept >= expire_ms)

    def is_marked(self, table_id: str) -> bool:
        """Say whether a table's rows are here, rows or none."""
        return table_id in self.expiries([table_id])

    def expiries(self, table_ids: Sequence[str]) -> dict[str, int | None]:
        """Give how long rows of tables are kept, milliseconds (None: for ever), of those here."""
        keys = [self._sample(one) for one in table_ids]
        found = iter(self.gather("MGET", [*chain.from_iterable(keys)]))
        told = {}
        for table, some in zip(table_ids, keys, strict=True):
            stored = list(islice(found, len(some)))
            if None not in stored:
                spans = [int(one) for one in stored if one.isdigit()]
                told[table] = min(spans) if spans else None
        return told

    def queue(self, source: str, entry: bytes) -> None:
        """Add rows pushed to a source to those that wait for its log."""
        self.call("XADD", self.key("pushed", source), "*", _ROWS, entry)

    def queued(self, source: str, *, most: int) -> list[tuple[bytes, bytes]]:
        """Give what waits for a source's log, oldest first: ids and entries."""
        found = self.call("XRANGE", self.key("pushed", source), "-", "+", "COUNT", most)
        return [
            (number, dict(zip(fields[::2], fields[1::2], strict=True)).get(_ROWS, b""))
            for number, fields in found
        ]

    def unqueue(self, source: str, ids: Sequence[bytes]) -> None:
        """Remove what a source's log has; it may be gone already."""
        self.run(_UNQUEUE, iter([([self.key("pushed", source)], [*ids])] if ids else []))

    def count(self, table_id: str) -> int:
        """Count a table's rows, or its window states, for people: it walks all keys there are."""
        return len(set(chain.from_iterable(self._scan(table_id))))

    def memory(self, table_id: str, canonical: Sequence[bytes]) -> list[int]:
        """Give the bytes of memory that each row which is there takes, its key included."""
        keys = redis_keys(self.project, table_id, canonical)
        found = self.ask([(key, ("MEMORY", "USAGE", key)) for key in keys]) if keys else []
        return [used for used in found if used is not None]

    def drop_table(self, table_id: str) -> int:
        """Remove a table's marker, its rows and window states; give how many of them went."""
        self.total("UNLINK", self._markers(table_id))
        tables = (table_id, states_of(table_id), pushed_of(table_id))
        found = chain.from_iterable(map(self._scan, tables))
        return sum(self.total("UNLINK", keys) for keys in found)

    def _marker(self, table_id: str, slot: int | None = None) -> bytes:
        """Give the key of a table's marker; on a cluster, of that of a slot."""
        table_prefix(self.project, table_id)
        key = self.key("marker", table_id)
        return key if slot is None else b"{" + tags()[slot] + b"}" + key

    def _markers(self, table_id: str) -> list[bytes]:
        """Give the keys of all of a table's markers, in the order in which they are written."""
        if not self.nodes.spread:
            return [self._marker(table_id)]
        return [self._marker(table_id, slot) for slot in range(SLOTS)]

    def _sample(self, table_id: str) -> list[bytes]:
        """Give the key of the marker that each server wrote last: if it is there, all are."""
        if not isinstance(self.nodes, Cluster):
            return [self._marker(table_id)]
        owners = self.owners(self.nodes, None)
        return [self._marker(table_id, slot) for slot in last_slots(owners)]

    def _missing(self, table_id: str) -> OnlineDataMissing:
        return OnlineDataMissing(
            f"{self.project}.{table_id}: its rows are not in Redis at {self.where}: it was emptied "
            "or never loaded; run `featurestore rebuild-online` to bring them back from offline",
            table=table_id,
        )

    def _scan(self, table_id: str) -> Iterator[list[bytes]]:
        pattern = b"{" + b"?" * 16 + b"}" + table_prefix(self.project, table_id) + b"*"
        for node in self.primaries():
            cursor = b"-1"
            while cursor != b"0":
                start = b"0" if cursor == b"-1" else cursor
                scan = ("SCAN", start, "MATCH", pattern, "COUNT", _SCAN)
                ((cursor, keys),) = self.ask([(node, scan)])
                # The pattern only saves traffic: what is one of ours is decided by decoding.
                if ours := keys_of(keys, self.project, table_id):
                    yield ours


def _same_length(*lists: Sequence[object]) -> None:
    if len(set(map(len, lists))) > 1:
        raise ValueError("keys and rows are not of one length")


def _tagged(canonical: Sequence[bytes | None]) -> tuple[list[bytes], list[bytes]]:
    """Give the keys that are none of null, and their hash tags."""
    known = list(filter(None, canonical))
    return known, tags_of(known)


def _placed(canonical: Sequence[bytes | None], found: Iterator[bytes | None]) -> list[bytes | None]:
    if None not in canonical:
        return list(islice(found, len(canonical)))
    there = np.fromiter(map(is_not, canonical, repeat(None)), np.bool_, len(canonical))
    rows = np.full(len(canonical), None, object)
    rows[there] = list(islice(found, int(there.sum())))
    placed: list[bytes | None] = rows.tolist()
    return placed
