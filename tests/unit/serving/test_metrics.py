"""The laws of counting: nothing is lost, pages add up, and Prometheus can read it."""

import re
import threading
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest

from featurestore.errors import InvalidRequest
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.process.counters import Counters, Pool
from featurestore.serving.process.metrics import (
    BYTES,
    FAMILIES,
    LATENCY,
    REQUESTS,
    STATUSES,
    Page,
    render,
)

LINE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? (-?[0-9.e+-]+)')


def read(text: str) -> Mapping[str, float]:
    """Read the text format, strictly; gives each series' value by its name with labels."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    described: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            _, kind, name, *_ = line.split(" ")
            assert kind in {"HELP", "TYPE"}
            described.append(f"{kind} {name}")
            continue
        matched = LINE.fullmatch(line)
        assert matched, line
        series = f"{matched[1]}{matched[2] or ''}"
        assert series not in found
        family = re.sub("_(bucket|sum|count)$", "", matched[1])
        assert f"TYPE {family}" in described
        found[series] = float(matched[3])
    assert len(described) == len(set(described))
    return found


def test_an_empty_page_reads_as_nothing():
    """All that is always there is there, as zero."""
    found = read(render({0: Page.new()}))
    assert found['featurestore_statuses_total{status="PRESENT"}'] == 0
    assert found['featurestore_ready{worker="0"}'] == 0
    assert set(found.values()) == {0}
    assert read(render({}))["featurestore_in_flight"] == 0


def test_pages_add_up():
    """Two workers' counts are one number, their standing is each one's own."""
    pages = {0: Page.new(), 1: Page.new()}
    for number, page in pages.items():
        counters = Counters(page)
        counters.standing(ready=True, release=7 + number)
        block = counters.block.numbers
        block[REQUESTS.start] += 3
        for value in (100, 250_000, 250_001, 10**12):
            LATENCY.observe(block, value, LATENCY.start)
    found = read(render(pages, restarts=2))
    assert found['featurestore_requests_total{method="GetOnlineFeatures",code="OK"}'] == 6
    assert found['featurestore_release{worker="1"}'] == 8
    assert found["featurestore_worker_restarts_total"] == 2
    method = 'method="GetOnlineFeatures"'
    buckets = f"featurestore_request_seconds_bucket{{{method},le="
    assert found[f'{buckets}"0.00025"}}'] == 4
    assert found[f'{buckets}"0.0005"}}'] == 6
    assert found[f'{buckets}"1"}}'] == 6
    assert found[f'{buckets}"+Inf"}}'] == 8
    assert found[f"featurestore_request_seconds_count{{{method}}}"] == 8
    summed = found[f"featurestore_request_seconds_sum{{{method}}}"]
    assert summed == pytest.approx(2 * (1000 + 0.000500101))


def test_the_statuses_are_those_of_the_protocol():
    """A status's number is its place."""
    assert tuple(f"STATUS_{name}" for name in STATUSES) == tuple(pb.Status.keys())


def test_the_sum_of_ages_outgrows_no_count():
    """Answers of old rows are counted as long as a server runs."""
    counters = Counters(Page.new())
    now, years = 1_700_000_000_000_000, 30 * 365 * 86_400_000_000
    times = np.full(100_000, now - years, "<i8")
    for _ in range(300):
        counters.block.answered(bytes([1]) * len(times), times.tobytes(), now)
    found = read(render({0: counters.page, 1: counters.page}))
    assert found["featurestore_event_age_seconds_count"] == 2 * 300 * len(times)
    mean = (
        found["featurestore_event_age_seconds_sum"] / found["featurestore_event_age_seconds_count"]
    )
    assert mean == pytest.approx(years / 1e6)


def test_what_is_answered_is_counted_by_status_and_age():
    """Each status once a row; ages of what has an event time, edges included below."""
    counters = Counters(Page.new())
    statuses = np.array([1, 1, 3, 4, 1], np.uint8)
    now = 10**15
    times = np.array([now - 1_000_000, now - 1_000_001, 0, now - 400 * 86_400_000_000, now + 5])
    counters.block.answered(statuses.tobytes(), times.astype("<i8").tobytes(), now)
    found = read(text := render({0: counters.page}))
    assert found['featurestore_statuses_total{status="PRESENT"}'] == 3
    assert found['featurestore_statuses_total{status="OUTSIDE_MAX_AGE"}'] == 1
    assert found['featurestore_event_age_seconds_bucket{le="1"}'] == 2
    assert found['featurestore_event_age_seconds_bucket{le="10"}'] == 3
    assert found["featurestore_event_age_seconds_count"] == 4
    assert 'le="31536000"' in text


def test_threads_lose_no_count():
    """Each counts in its own block, however they interleave."""
    counters = Counters(Page.new())

    def count() -> None:
        for _ in range(20_000):
            counters.block.numbers[REQUESTS.start] += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(render({0: counters.page}))
    assert found['featurestore_requests_total{method="GetOnlineFeatures",code="OK"}'] == 80_000


def test_what_is_in_hand_is_what_was_taken_and_is_not_done(tmp_path):
    """A worker killed with calls in hand leaves its counts, and nothing in hand."""
    with (tmp_path / "page").open("w+b") as file:
        file.truncate(BYTES)
        page = Page.shared(file.fileno())
        counters = Counters(Page.shared(file.fileno()))
        pool, go = Pool(2, counters), threading.Event()
        calls = [pool.submit(go.wait) for _ in range(5)]
        assert page.in_flight() == 5
        go.set()
        pool.shutdown()
        assert all(call.result() for call in calls)
        assert page.in_flight() == 0
        for _ in range(3):
            counters.arrived()
            counters.submitted()
        assert page.in_flight() == 3
        assert Counters(Page.shared(file.fileno())).page.in_flight() == 0
        assert page.header[3] == 8


@pytest.mark.parametrize("given", [0, -1, 65])
def test_threads_are_as_many_as_can_count(given):
    """Each has a block of its own in the page that Prometheus reads."""
    with pytest.raises(InvalidRequest, match=r"^limits\.threads: -?[0-9]+ is not 1 to 64"):
        Pool(given, Counters(Page.new()))


def test_no_two_families_share_a_place():
    """The layout leaves no gap and no overlap."""
    for one, other in pairwise(FAMILIES):
        assert one.end == other.start
