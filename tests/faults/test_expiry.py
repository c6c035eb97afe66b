"""Rows that Redis lets go of while they are read: a whole row at its time, or none."""

import time
from uuid import uuid4

import numpy as np
import polars as pl

from featurestore.serving.client.client import FeatureClient
from featurestore.serving.process.server import serve
from featurestore.storage.redis import OnlineStore
from tests.releases import at, load_rows, publish, release_of, stored_view
from tests.servers import Server

VIEW = stored_view("view", {"key": "int64"}, {"a": "float64", "b": "string"})
ROWS = 200


def test_a_row_expires_as_a_whole(server: Server) -> None:
    """Value, status and time of each row agree in every answer, and what is gone stays gone."""
    store = OnlineStore.connect(server.url, project=f"expiry-{uuid4().hex[:8]}")
    numbers = pl.int_range(ROWS, eager=True)
    rows = pl.DataFrame({"key": numbers, "a": numbers / 4, "b": "b" + numbers.cast(pl.String)})
    load_rows(store, VIEW, rows, [at()] * ROWS)
    publish(store, release_of(store, [VIEW]))
    served = serve(store, project=store.project)
    before, seen = np.ones(ROWS, np.bool_), 0
    with FeatureClient(served.address, timeout=5) as client, server.client() as redis:
        keys = [key for key in redis.scan_iter(f"*{store.project}*") if b"{" in key]
        assert len(keys) == ROWS
        for number, key in enumerate(keys):
            redis.pexpire(key, 100 + 5 * number)
        ends = time.monotonic() + 20
        while before.any() and time.monotonic() < ends:
            found = client.get_online_features(["view:a", "view:b"], entities={"key": numbers})
            answer = found.to_dict()
            there = np.array([status == "PRESENT" for status in found.statuses["a"]])
            assert set(found.statuses["a"]) <= {"PRESENT", "NOT_FOUND"}
            assert found.statuses["a"] == found.statuses["b"]
            for number, known in enumerate(there.tolist()):
                wanted = (number / 4, f"b{number}") if known else (None, None)
                assert (answer["a"][number], answer["b"][number]) == wanted
            assert not (there & ~before).any()
            seen += 0 < there.sum() < ROWS
            before = there
    served.stop(0)
    store.close()
    assert not before.any()
    assert seen > 5
