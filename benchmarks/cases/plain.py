"""The floor: the same work in plain Polars and redis-py, without a feature store's promises."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import redis
from child import answer, main, timed
from columns import EVENT, KEY, MOMENT, READINGS, SPINE, TTL, names
from dataset import latest

CHUNK, ASKED = 1000, 5000


def training(*, folder: str, features: int, keep: str | None = None) -> Mapping[str, float]:
    """Join the newest reading before each entity row, as one as-of join of whole rows."""
    spine = pl.read_parquet(Path(folder) / SPINE)

    def work() -> pl.DataFrame:
        readings = pl.read_parquet(Path(folder) / READINGS).sort(MOMENT)
        numbered = spine.with_row_index("order").sort(EVENT)
        joined = numbered.join_asof(
            readings,
            left_on=EVENT,
            right_on=MOMENT,
            by=KEY,
            tolerance=TTL,
            check_sortedness=False,
        )
        return joined.sort("order").select(*spine.columns, *names(features))

    made, measured = timed(work)
    answer(made, keep)
    return measured


def materialize(
    *, folder: str, url: str, target: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Write all rows to a Delta table and each key's newest to Redis, packed, with MSET."""

    def work() -> pl.DataFrame:
        readings = pl.read_parquet(Path(folder) / READINGS)
        readings.write_delta(target)
        newest = latest(readings)
        matrix = np.ascontiguousarray(newest.select(names(features)).to_numpy())
        rows = matrix.view(f"V{matrix.itemsize * features}").ravel().tolist()
        keys = _keys(newest)
        with redis.Redis.from_url(url, protocol=2) as client:
            for at in range(0, len(keys), CHUNK):
                client.mset(dict(zip(keys[at : at + CHUNK], rows[at : at + CHUNK], strict=True)))
        return newest

    newest, measured = timed(work)
    asked = newest.select(KEY).head(ASKED)
    with redis.Redis.from_url(url, protocol=2) as client:
        rows = client.mget(_keys(asked))
    matrix = np.frombuffer(b"".join(rows), dtype="<f4").reshape(asked.height, features)
    answer(asked.hstack(pl.DataFrame(matrix, schema=names(features), orient="row")), keep)
    return measured


def _keys(rows: pl.DataFrame) -> list[str]:
    return ("plain:" + rows[KEY].cast(pl.String)).to_list()


if __name__ == "__main__":
    raise SystemExit(main(training, materialize))
