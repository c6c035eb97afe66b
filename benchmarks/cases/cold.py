"""A process that has just started: import, open, join, done. Imports what the join needs alone."""

import json
import os
import sys
import time

import polars as pl

from featurestore import FeatureStore


def main() -> int:
    """Answer the entity rows of a file; say when the answer was there, on the monotonic clock."""
    asked = json.loads(sys.argv[2])
    environ = {**os.environ, "FEATURESTORE_REDIS_URL": asked["url"]}
    with FeatureStore(asked["repo"], environ=environ) as store:
        spine = pl.read_parquet(asked["spine"])
        made = store.get_historical_features(spine, asked["service"]).to_polars()
        answered = time.monotonic()
    if asked["keep"]:
        made.write_parquet(asked["keep"])
    sys.stdout.write(json.dumps({"answered": answered}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
