"""From the bytes of a request to the bytes of its answer, for whoever carries them."""

from collections.abc import Callable

from featurestore.errors import NotMaterialized, OnlineDataMissing
from featurestore.serving.answer.lookup import Reader, answer
from featurestore.serving.answer.requests import Request, reading
from featurestore.serving.answer.state import State
from featurestore.serving.answer.trace import UNWATCHED, Trace
from featurestore.serving.message.locks import LockReference, Locks


def respond(
    state: State,
    raw: bytes,
    *,
    most: int,
    clock: Callable[[], int],
    read: Reader,
    locks: Locks,
    trace: Trace = UNWATCHED,
) -> bytes:
    """Answer a GetOnlineFeaturesRequest of at most so many rows from one release.

    `clock` gives the moment (UTC µs) for a request that names none; `locks` are those brought so
    far; `trace` is told what passes, and may refuse it.

    Raises:
        InvalidRequest, NotFound: the request does not fit the release.
        LockUnknown: the request names a lock that nobody brought yet.
        NotMaterialized, Unsupported: the request cannot be answered by this release or build.
        OnlineDataMissing, Unavailable: the reader's own.
    """

    def made(request: Request) -> bytes:
        wanted = request.wanted
        if isinstance(wanted, LockReference):
            wanted = locks.find(wanted)
        trace.wanted(wanted)
        plan = state.plan(wanted, request.full_feature_names)
        trace.planned(plan, request.count)
        as_of = clock() if request.as_of is None else request.as_of
        return answer(plan, request, as_of, read, trace)

    try:
        return reading(raw, made, most=most)
    except OnlineDataMissing as error:
        if error.table is None or error.table in state.tables:
            raise
        raise NotMaterialized(
            f"{error.table}: the rows of this table, which is warm in release "
            f"{state.release.number} and not live, are not in Redis; run `featurestore lock "
            "register FILE` to have them loaded and kept"
        ) from error
