"""From the bytes of a request to the bytes of its answer, for whoever carries them."""

from collections.abc import Callable

from featurestore.serving.lookup import Reader, answer
from featurestore.serving.requests import read_request
from featurestore.serving.state import State


def respond(
    state: State, raw: bytes, *, most: int, clock: Callable[[], int], read: Reader
) -> bytes:
    """Answer a GetOnlineFeaturesRequest of at most so many rows from one release.

    `clock` gives the moment (UTC µs) for a request that names none.

    Raises:
        InvalidRequest, NotFound: the request does not fit the release.
        NotMaterialized, Unsupported: the service cannot be answered by this build.
        OnlineDataMissing, Unavailable: the reader's own.
    """
    request = read_request(raw, most=most)
    return answer(
        state.plan(request.wanted, request.full_feature_names),
        count=request.count,
        entities=request.entities,
        request_data=request.request_data,
        as_of=clock() if request.as_of is None else request.as_of,
        read=read,
    )
