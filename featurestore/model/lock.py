"""The lock: what a training set leaves behind so that serving can answer with the same features."""

import json
from dataclasses import dataclass
from typing import Literal

from featurestore.model.documents import dump, load
from featurestore.model.fingerprint import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedView:
    """One version that was read; `data` names the stored data of a batch view.

    `id` is the full version id; `ttl` and `delay` are microseconds.
    """

    name: str
    id: str
    kind: Literal["batch", "on_demand"]
    ttl: int | None = None
    known_at: Literal["created", "event"] = "created"
    delay: int = 0
    data: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedLookup:
    """One use of a stored view: `join_key_map` pairs each join key with the caller's column.

    `version` is the id of the version that was read, `features` the ids of the features that were,
    and `readers` the version ids of the on-demand views that read them. Of `valued` entity rows
    with a value by event time, known-at withheld it from `withheld`.
    """

    view: str
    alias: str
    join_key_map: tuple[tuple[str, str], ...] = ()
    withheld: int = 0
    valued: int = 0
    version: str = ""
    features: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedOutput:
    """One answered column, in order; an on-demand feature has no join keys of its own."""

    name: str
    view: str
    alias: str
    feature: str
    feature_id: str
    version: str
    dtype: str
    join_key_map: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lock:
    """What a training set was made of.

    `spine` is a digest of the moments, keys and request data of the `rows` entity rows; `dialect`
    the Polars dialect that computed. A `draft` comes from unregistered views: serving refuses it.
    """

    project: str
    draft: bool
    service: str | None = None
    as_known: bool = True
    allow_stale: bool = False
    outputs: tuple[LockedOutput, ...]
    lookups: tuple[LockedLookup, ...]
    views: tuple[LockedView, ...]
    dialect: str
    polars: str
    spine: str
    rows: int

    def __repr__(self) -> str:
        draft = "draft, " if self.draft else ""
        views = ", ".join(f"{view.name}@{view.id[:12]}" for view in self.views)
        return f"<Lock of {draft}{self.rows:,} rows, {len(self.outputs)} features: {views}>"

    @property
    def id(self) -> str:
        """The digest of all that the lock says, by which it is registered and sent."""
        return digest("lock", dump(self))

    def to_json(self) -> str:
        """Write the lock and its id as JSON; equal locks give equal text."""
        told = {"id": self.id, **json.loads(dump(self))}
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes) -> "Lock":
        """Read a lock back.

        Raises:
            ValueError: the text is not JSON, has missing, extra or mistyped fields, or its id is
                not that of its content.
        """
        told = json.loads(text)
        named = told.pop("id", None) if isinstance(told, dict) else None
        lock = load(json.dumps(told, ensure_ascii=False), Lock)
        if named != lock.id:
            raise ValueError(
                "Lock: its id does not fit its content: it was changed since it was written, or "
                "another version of the store wrote it"
            )
        return lock
