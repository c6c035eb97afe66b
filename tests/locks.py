"""Locks for tests, left behind by real training sets of no rows, or written by hand."""

import polars as pl

from featurestore.model.documents import View
from featurestore.model.facts import Registered
from featurestore.model.lock import Lock, LockedLookup, LockedOutput, LockedView
from featurestore.model.query import Query
from featurestore.model.time import EVENT, MOMENT, Interval
from featurestore.training import training_set
from featurestore.training.tables import Parts
from tests.tables import EVERYTHING


class _Empty:
    """Tables of every version, without rows."""

    def parts(self, view: View, events: Interval) -> Parts:  # noqa: ARG002
        return Parts(buckets=1, parts=(), name=self.data_version(view))

    def covered(self, view: View) -> tuple[Interval, ...]:  # noqa: ARG002
        return (EVERYTHING,)

    def data_version(self, view: View) -> str:
        return f"{view.data_id[:16]}.0/1"


def lock_of(query: Query, *, project: str = "shop", service: str | None = None) -> Lock:
    """Give the lock of a training set of a query."""
    columns = {one.name: one.polars for one in (*query.entities, *query.request)}
    spine = pl.DataFrame(schema={EVENT: MOMENT, **columns})
    return training_set(spine, query, _Empty(), project=project, service=service).lock


def locked(of, *features, project="shop", owner="alice", **changes):
    """Register a lock on features of a view."""
    outputs = tuple(
        LockedOutput(
            name=name,
            view=of.name,
            alias=of.name,
            feature=name,
            feature_id=of.feature(name).id,
            version=of.id,
            dtype="float64",
        )
        for name in features
    )
    lock = Lock(
        project=project,
        draft=False,
        outputs=outputs,
        lookups=(LockedLookup(view=of.name, alias=of.name),),
        views=(LockedView(name=of.name, id=of.id, kind=of.kind),),
        dialect="polars-2.1",
        polars="2.1.0",
        spine="",
        rows=1,
    )
    return Registered(id=lock.id, lock=lock, owner=owner, registered=0, **changes)
