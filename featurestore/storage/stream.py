"""Events in a Redis stream, taken by a consumer group.

What a consumer of a name had taken when it died comes first when one of that name is back; what
another left undone for a while is taken over. Entries stay in the stream: cutting it is up to who
writes it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Self

import polars as pl
import redis

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.storage.client import connected
from featurestore.storage.consumer import FIELDS, Batch, Lag

REFUSED = ":refused"
"""What the name of the stream with refused entries has after the stream's own."""

_TIMEOUT = 5.0
_START = "0-0"
_AT_ONCE = 1_000
# A server that starts, is full or changes roles will take the call later; who has no right to
# make it, or names what is no stream, will not be helped by waiting.
_LATER = (
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
_LATER_CODES = ("BUSY", "MISCONF", "NOREPLICAS")

_Entry = tuple[bytes, list[bytes] | None]


def _raw(reply: Any, **_: Any) -> Any:
    """Leave a reply as the server gives it: fields in one list, names and values in turn."""
    return reply


class RedisStream:
    """A consumer of a group of a Redis stream; `where` is the server without secrets."""

    def __init__(
        self,
        client: redis.Redis,
        where: str,
        *,
        stream: str,
        group: str,
        consumer: str,
        idle: float,
    ) -> None:
        self.where = where
        self.stream = stream
        self._client = client
        self._group = group
        self._consumer = consumer
        self._idle = idle
        # What was taken under this name and never done, be it by a process that died or in a
        # reply that was lost, is read before anything new.
        self._undone = True
        self._next_claim = 0.0
        for command in ("XREADGROUP", "XAUTOCLAIM"):
            client.set_response_callback(command, _raw)

    @classmethod
    def connect(
        cls, url: str, *, stream: str, group: str, consumer: str, idle: float, wait: float
    ) -> Self:
        """Give a consumer of a stream at a Redis URL; nothing is sent yet.

        `idle` is after how many seconds what another consumer took and did not do is taken over;
        `wait` is the longest that one will wait for entries, seconds.

        Raises:
            InvalidRequest: the URL is none.
        """
        try:
            where, client = connected(url, timeout=_TIMEOUT + wait)
        except ValueError:
            raise InvalidRequest(
                "--url: not a Redis URL; write redis://host:port/db, and the signs / ? # @ in a "
                "password as %2F %3F %23 %40"
            ) from None
        return cls(client, where, stream=stream, group=group, consumer=consumer, idle=idle)

    def close(self) -> None:
        """Close all connections."""
        self._client.connection_pool.disconnect()

    def take(self, most: int, wait: float) -> Batch | None:
        """Give at most so many entries; see `Consumer`."""
        try:
            with self._answers():
                found = self._left(most) or self._claimed(most) or self._new(most, wait)
        except Unavailable:
            # The reply may be lost that says what we took.
            self._undone = True
            raise
        if not found:
            return None
        fields = [fields or [] for _, fields in found]
        return Batch(ids=[number.decode() for number, _ in found], fields=_frame(fields))

    def _left(self, most: int) -> list[_Entry]:
        """Give what was taken under this name before."""
        if not self._undone:
            return []
        found = self._read(most, _START)
        self._undone = bool(found)
        return found

    def _claimed(self, most: int) -> list[_Entry]:
        """Take over what others, or lost replies, left undone for too long."""
        now = time.monotonic()
        if now < self._next_claim:
            return []
        with self._grouped():
            _, found, removed = self._client.xautoclaim(
                self.stream,
                self._group,
                self._consumer,
                min_idle_time=round(self._idle * 1000),
                count=most,
            )
            if not found and not removed:
                self._next_claim = now + self._idle / 2
            return [*map(tuple, found), *((number, None) for number in removed)]
        return []

    def _new(self, most: int, wait: float) -> list[_Entry]:
        """Wait for the first entry, then the rest of the time for others to come with it."""
        until = time.monotonic() + wait
        found = self._read(most, ">", block=wait)
        left = until - time.monotonic()
        if found and len(found) < most and left > 0:
            time.sleep(left)
            try:
                found += self._read(most - len(found), ">")
            except redis.RedisError:
                # Those that are here are worked on; that which the reply had comes after them.
                self._undone = True
        return found

    def _read(self, most: int, after: str, *, block: float | None = None) -> list[_Entry]:
        with self._grouped():
            found: Any = self._client.xreadgroup(
                self._group,
                self._consumer,
                {self.stream: after},
                count=most,
                block=None if block is None else max(1, round(block * 1000)),
            )
            return [*map(tuple, found[0][1])] if found else []
        return []

    def done(self, batch: Batch, refused: pl.DataFrame) -> None:
        """Acknowledge a batch, its refused entries in the same step as they are kept elsewhere."""
        with self._answers():
            for some in refused.iter_slices(_AT_ONCE):
                self._refuse(batch, some)
            bad = set(refused["row"].to_list())
            good = [number for place, number in enumerate(batch.ids) if place not in bad]
            for start in range(0, len(good), _AT_ONCE):
                self._client.xack(self.stream, self._group, *good[start : start + _AT_ONCE])

    def _refuse(self, batch: Batch, refused: pl.DataFrame) -> None:
        """Copy entries to the stream of the refused ones, as they came and why they were refused.

        Should the reply be lost, they are copied again.
        """
        ids = [batch.ids[row] for row in refused["row"]]
        fields = batch.fields.filter(pl.col("entry").is_in(refused["row"].implode()))
        of: dict[int, dict[Any, Any]] = {
            entry: dict(zip(names, values, strict=True))
            for entry, names, values in fields.group_by("entry").agg("name", "value").iter_rows()
        }
        with self._client.pipeline(transaction=True) as pipeline:
            for row, number, reason in zip(refused["row"], ids, refused["reason"], strict=True):
                told: dict[Any, Any] = {b"refused:id": number, b"refused:reason": reason}
                pipeline.xadd(self.stream + REFUSED, {**of.get(row, {}), **told})
            pipeline.xack(self.stream, self._group, *ids)
            pipeline.execute()

    def lag(self) -> Lag:
        """Say how far the group is behind, by the server's clock."""
        with self._answers(), self._grouped():
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.xinfo_groups(self.stream)
                pipeline.xpending(self.stream, self._group)
                pipeline.time()
                replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            groups, pending, (seconds, micros) = replies
            mine = next(one for one in groups if one["name"] == self._group.encode())
            after = b"(" + mine["last-delivered-id"]
            found: Any = self._client.xrange(self.stream, min=after, count=1)
            waiting = [number for number, _ in found] + [*filter(None, [pending["min"]])]
            now = seconds * 1000 + micros // 1000
            ages = [now - int(number.partition(b"-")[0]) for number in waiting]
            entries = mine["lag"] if found else 0
            return Lag(
                entries=entries,
                pending=pending["pending"],
                seconds=max([0, *ages]) / 1000,
            )
        return Lag(entries=0, pending=0, seconds=0.0)

    @contextmanager
    def _grouped(self) -> Iterator[None]:
        """Make the group where the stream has none, from its first entry on; the block gave up."""
        try:
            yield
        except redis.ResponseError as error:
            # Both say so of a stream that is not there; the second, of one that went meanwhile.
            if not str(error).startswith(("NOGROUP", "UNBLOCKED", "no such key")):
                raise
            try:
                self._client.xgroup_create(self.stream, self._group, id="0", mkstream=True)
            except redis.ResponseError as late:
                if not str(late).startswith("BUSYGROUP"):
                    raise

    @contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn what Redis or the network raises into errors of ours, without values or secrets."""
        try:
            yield
        except (redis.ResponseError, redis.AuthenticationError) as error:
            code = str(error).split(" ", maxsplit=1)[0]
            if isinstance(error, _LATER) or code in _LATER_CODES:
                raise Unavailable(
                    f"stream {self.stream}: Redis at {self.where} cannot do it now "
                    f"({type(error).__name__}); see its log and limits"
                ) from None
            raise InvalidRequest(
                f"stream {self.stream}: Redis at {self.where} refused the call "
                f"({_reason(error, code)}); see --url and --stream, the user's rights, and that it "
                "is version 7.0 or later"
            ) from None
        except redis.RedisError as error:
            raise Unavailable(
                f"stream {self.stream}: Redis at {self.where} cannot be reached "
                f"({type(error).__name__}); check that it runs, and --url"
            ) from error


def _reason(error: Exception, code: str) -> str:
    """Give an error's code, which redis-py makes a class of or leaves in the text."""
    return code if code.isupper() else type(error).__name__


def _frame(fields: Sequence[Sequence[bytes]]) -> pl.DataFrame:
    """Give the fields of entries, each a list of names and values in turn, as `FIELDS` says."""
    flat = [*chain.from_iterable(fields)]
    entry = pl.Series("entry", range(len(fields)), dtype=pl.UInt32)
    lengths = pl.Series([len(one) // 2 for one in fields], dtype=pl.UInt32)
    places = pl.select(pl.lit(entry).repeat_by(pl.lit(lengths))).to_series().explode()
    return pl.DataFrame(
        {"entry": places.drop_nulls(), "name": flat[::2], "value": flat[1::2]}, schema=FIELDS
    )
