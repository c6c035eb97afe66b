"""What client and server agree on without asking: the service's name and what is too much."""

from dataclasses import dataclass

from featurestore.errors import InvalidRequest
from featurestore.model.pushes import SKEW
from featurestore.proto.v1 import feature_store_pb2 as pb

SERVICE: str = pb.DESCRIPTOR.services_by_name["FeatureStore"].full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server accepts: rows a call, bytes a message, threads, calls at once, poll seconds.

    `outputs` are the features of a lookup, `keys` its rows for each stored view; `cells`, rows for
    each output, bound what all lookups in hand answer together. A pushed event may lie `skew`
    microseconds in the future. So many `kept_rows` are answered from the process's own memory,
    `kept_for` seconds long; none, unless said.
    """

    rows: int = 10_000
    outputs: int = 2_000
    keys: int = 250_000
    cells: int = 5_000_000
    pushed_rows: int = 10_000
    skew: int = SKEW
    request_bytes: int = 4 << 20
    reply_bytes: int = 64 << 20
    threads: int = 4
    calls: int = 256
    poll: float = 0.5
    kept_rows: int = 0
    kept_for: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a skew that no clock could be compared with."""
        if not isinstance(self.skew, int) or not 0 <= self.skew < 1 << 60:
            raise InvalidRequest(
                f"limits.skew: {self.skew!r:.40} is no number of microseconds, zero or more; the "
                f"usual one is {SKEW}"
            )

    def check(self, *, rows: int, outputs: int, views: int) -> None:
        """Refuse a lookup of so many rows, outputs and stored views that is too large.

        Raises:
            InvalidRequest: it is.
        """
        if outputs > self.outputs:
            raise InvalidRequest(
                f"features: {outputs} asked for, at most {self.outputs} a call; ask for fewer"
            )
        if rows * views > self.keys:
            raise InvalidRequest(
                f"entities: {rows} rows of {views} stored views are {rows * views} keys, at most "
                f"{self.keys} a call; split the request"
            )
