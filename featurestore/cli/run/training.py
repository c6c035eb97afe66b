"""Training sets, written by jobs."""

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from featurestore.cli import terminal
from featurestore.cli.run.typed import moment
from featurestore.cli.text import training as text
from featurestore.cli.values import training as values
from featurestore.engine.executor import Executor, LocalExecutor, cores
from featurestore.engine.ray import RayExecutor
from featurestore.errors import InvalidRequest
from featurestore.store import FeatureStore
from featurestore.training import TrainingSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the join runs on, as it was typed."""

    memory: str | None
    workers: int | None
    ray: bool

    def executor(self) -> Executor:
        """Give the executor that was asked for."""
        if self.ray:
            return RayExecutor(workers=self.workers or cores(), memory=self.memory)
        return LocalExecutor(workers=self.workers, memory=self.memory)


def get_historical(
    repo: Path,
    entity_file: Path | None,
    features: str | Sequence[str] | None,
    *,
    lock: Path | None,
    out: Path | None,
    span: tuple[str | None, str | None],
    full_feature_names: bool,
    allow_stale: bool,
    machine: Machine,
    json: bool,
) -> None:
    """Write a training set and its lock; without a place for it, say what would be read."""
    start, end = (
        None if one is None else moment(one, name)
        for one, name in zip(span, ("--start", "--end"), strict=True)
    )
    if entity_file is not None and not entity_file.exists():
        raise InvalidRequest(f"--entity-file: {entity_file} is not there; name a Parquet file")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _ended)
    with FeatureStore(repo) as store:
        made = store.get_historical_features(
            entity_file,
            features,
            lock=lock,
            full_feature_names=full_feature_names,
            allow_stale=allow_stale,
            start_date=start,
            end_date=end,
            executor=machine.executor(),
        )
        if out is None:
            _explain(made, json=json)
            return
        made.to_parquet(out)
        beside = _written(made, out)
        seconds = time.monotonic() - began
        if json:
            terminal.as_json(values.written(made, out, beside, seconds))
        else:
            text.written(made, out, beside, seconds)


def _ended(number: int, _: object) -> NoReturn:
    """End as an interrupt does, so that what waits beside the output is removed."""
    sys.exit(128 + number)


def _explain(made: TrainingSet, *, json: bool) -> None:
    if json:
        terminal.as_json(values.explained(made.explain()))
    else:
        text.explained(made.explain())


def _written(made: TrainingSet, out: Path) -> Path:
    """Write the lock beside the rows: whole, or not at all."""
    path = out.with_name(f"{out.name}.lock.json")
    terminal.to_file(path, made.lock.to_json() + "\n")
    return path
