"""Training sets on Ray: the same frames, also when a worker dies."""

import os
import random
import signal
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from featurestore import LocalExecutor, RayExecutor
from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.time import CREATED, EVENT
from featurestore.training import training_set
from tests.property.test_point_in_time import BUCKETS, Case, cases, expected
from tests.property.test_window_truth import Case as WindowCase
from tests.property.test_window_truth import cases as window_cases
from tests.property.test_window_truth import check
from tests.tables import Memory, ask, make_view, stored

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def executor():
    """Ray on this machine, with two workers."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield RayExecutor(workers=2)
    ray.shutdown()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(), buckets=BUCKETS)
def test_every_value_is_the_oracles_on_ray_too(executor, case: Case, buckets: int):
    """Any rows, in any number of buckets, are answered as by brute force."""
    made = case.answer(buckets=buckets, executor=executor).to_polars()
    assert made["value"].to_list() == expected(case)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=window_cases(), buckets=BUCKETS)
def test_every_window_is_the_oracles_on_ray_too(executor, case: WindowCase, buckets: int):
    """Late and corrected events, in any number of buckets, are counted as by brute force."""
    check(case, case.answer(buckets=buckets, executor=executor).to_polars())


def test_both_executors_give_equal_frames_and_locks(executor):
    """Strings, lists, floats and nulls of many keys: all bits, all counts, the same lock."""
    view = make_view(values={"value": "float64", "tags": "list[int32]", "name": "string"})
    rng = random.Random(11)
    rows = 3000
    table = stored(
        view,
        {
            "tailnum": [f"N{rng.randrange(200)}" for _ in range(rows)],
            EVENT: [rng.randrange(10**6) for _ in range(rows)],
            CREATED: [rng.choice([None, rng.randrange(10**6)]) for _ in range(rows)],
            "value": [rng.choice([None, float("nan"), -0.0, rng.random()]) for _ in range(rows)],
            "tags": [rng.choice([None, [], [1, None]]) for _ in range(rows)],
            "name": [rng.choice([None, "", "ä"]) for _ in range(rows)],
        },
    )
    moments = [datetime.fromtimestamp(rng.randrange(2), UTC) for _ in range(500)]
    spine = pl.DataFrame({"tailnum": [f"N{rng.randrange(220)}" for _ in range(500)]})
    spine = spine.with_columns(pl.Series(EVENT, moments, pl.Datetime("us", "UTC")))
    made = [
        training_set(
            spine, ask(view), Memory(frames={"plane": table}, buckets=8), project="t", executor=one
        )
        for one in (LocalExecutor(), executor)
    ]
    local, remote = (one.to_polars() for one in made)
    assert local.equals(remote)
    assert made[0].lock == made[1].lock
    assert local["value"].count() > 50


def dying(folder, task):
    """Die as a worker does that runs out of memory, the first time that each task runs."""
    mark = Path(folder, str(task))
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task * 10


def test_a_task_killed_once_changes_nothing(executor, tmp_path):
    """Ray runs it again; every result is there, once."""
    found = list(executor.run(dying, str(tmp_path), [0, 1, 2], [1, 1, 1]))
    assert sorted(found) == [(0, 0), (1, 10), (2, 20)]


def failing(_, task):
    """Fail with an error of the store."""
    raise CorruptData(f"plane: file {task} is not what was written; compute it again")


def test_an_error_of_a_task_is_the_stores_own(executor):
    """What a worker raises comes as it was raised, not wrapped in Ray's."""
    with pytest.raises(CorruptData, match="file 7 is not what was written") as caught:
        list(executor.run(failing, None, [7], [1]))
    assert type(caught.value) is CorruptData


@pytest.mark.parametrize("given", [0, 1.5, "2"])
def test_workers_must_work_on_ray_too(given):
    """No worker would never end, and there is no half of one."""
    with pytest.raises(InvalidRequest, match=r"workers: .* run nothing"):
        RayExecutor(workers=given)


def test_an_executor_on_ray_prints_its_memory_as_people_write_it():
    """As a local one does."""
    executor = RayExecutor(memory=3 << 29, workers=2)
    assert repr(executor) == "RayExecutor(memory='1.5GiB', workers=2)"
