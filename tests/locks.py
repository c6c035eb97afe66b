"""Locks that tests register, made as a training set leaves them."""

from featurestore.model.lock import Lock, LockedLookup, LockedOutput, LockedView
from featurestore.model.needs import Registered


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
