"""Materialization: a source file into offline rows and each key's newest row in Redis.

Sides: the store (all rows into Delta with known-at, revisions and checksums; newest rows into Redis
by compare-and-set); Feast's `materialize` with its defaults into its Redis online store (which
keeps no offline copy: its source is its offline store); the floor, plain Polars and MSET. All three
write to the same server, emptied before each, which appends to a file.

Two pieces of work: a long history of few keys, and many keys with one row each. Feast holds each
value as an object of its own; where there are more keys than it can, it takes a smaller file of the
same kind, and rates are compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from columns import KEY, READINGS, names
from dataset import Size, latest, same_bits, write_readings
from goals import Goal
from options import Options
from process import emptied, redis_bytes, redis_keys, redis_server, run_case
from report import Measure, Report, Unequal
from sides import PEAK, SECONDS, Goals, Measured, Sample, Side, in_turn, part, report

HISTORY = {
    "tiny": Size(rows=2_000, keys=500, features=20),
    "default": Size(rows=1_000_000, keys=20_000, features=20),
    "full": Size(rows=10_000_000, keys=200_000, features=20),
}
NEWEST = {
    "tiny": Size(rows=500, keys=500, features=50),
    "default": Size(rows=50_000, keys=50_000, features=50),
    "full": Size(rows=1_000_000, keys=1_000_000, features=50),
}
FEAST_KEYS = 200_000
OURS, FLOOR, FEAST = "ours", "Polars + MSET", "Feast, local engine"
RATE, INTO_REDIS = "source rows/s", "rows/s to Redis"
LUA_RATE = 256_000.0
"""What compare-and-set in Lua, 500 keys a script, pipelined through redis-py, did on two cores."""
MEASURES = (
    Measure(name=RATE, digits=0),
    Measure(name=SECONDS, digits=3),
    Measure(name=INTO_REDIS, digits=0),
    Measure(name=PEAK, digits=0),
    Measure(name="Redis MiB", digits=1),
)
_MIB = 1 << 20


def run(options: Options, folder: Path) -> Report:
    """Run every side in turn on an emptied server; read rows back before times count."""
    history, newest = HISTORY[options.size], NEWEST[options.size]
    with redis_server(folder / "online") as url:
        parts = [
            part(
                _title(size),
                _goals(_title(size), size),
                partial(_measured, options, size, folder / name, url),
                MEASURES,
            )
            for name, size in (("history", history), ("newest", newest))
        ]
    notes = _notes(options, (history, newest))
    return report("materialize", newest.plain(), options.repeats, parts, notes)


def _title(size: Size) -> str:
    rows = f"{size.rows:,} rows x {size.features} float32"
    return f"Materialize: {rows}, newest of {size.keys:,} keys to Redis"


def _goals(work: str, size: Size) -> Goals:
    goals: dict[Goal, Any] = {
        Goal(work=work, figure="times Feast's source rows/s", better="more", must=30, digits=1): (
            lambda found: found.ratio(OURS, FEAST, RATE)
        )
    }
    if size.rows == size.keys:
        into_redis = Goal(work=work, figure=INTO_REDIS, better="more", reach=LUA_RATE, digits=0)
        goals[into_redis] = partial(Measured.median, side=OURS, measure=INTO_REDIS)
    return goals


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """A source file to be materialized by one side into the server at `url`, emptied before."""

    size: Size
    folder: Path
    url: str
    script: str
    place: str

    def __call__(self, answer: Path) -> Sample:
        """Materialize; give what it measured.

        Raises:
            Unequal: not every row is offline, or not every key's newest in Redis.
        """
        emptied(self.url)
        empty, size = redis_bytes(self.url), self.size
        stored: dict[str, Any] = {self.place: answer.with_suffix(".stored")}
        measured = run_case(
            self.script,
            "materialize",
            optimized=self.script == "feast_peer.py",
            **stored,
            folder=self.folder,
            url=self.url,
            features=size.features,
            keep=answer,
        )
        told = {"rows offline": size.rows, "rows in Redis": redis_keys(self.url)} | measured
        counted = (told["rows offline"], told["rows in Redis"])
        if counted != (size.rows, size.keys):
            raise Unequal(f"{self.script}: {counted} rows of {(size.rows, size.keys)}")
        measured |= {
            RATE: size.rows / measured[SECONDS],
            "Redis MiB": (redis_bytes(self.url) - empty) / _MIB,
        }
        if "serving s" in measured:
            measured[INTO_REDIS] = size.keys / measured["serving s"]
        return measured


def _measured(
    options: Options, size: Size, folder: Path, url: str
) -> tuple[Measured, Sequence[Side]]:
    loads = {
        OURS: _Load(size=size, folder=folder, url=url, script="ours.py", place="repo"),
        FLOOR: _Load(size=size, folder=folder, url=url, script="plain.py", place="target"),
    }
    if options.feast:
        fewer = feasible(size)
        place = folder if fewer == size else folder / "fewer"
        loads[FEAST] = _Load(
            size=fewer, folder=place, url=url, script="feast_peer.py", place="repo"
        )
    for place, of in {load.folder: load.size for load in loads.values()}.items():
        place.mkdir(parents=True)
        write_readings(place, of)
    sides = [Side(name=name, run=load, against=OURS) for name, load in loads.items()]
    return in_turn(sides, options.repeats, folder, partial(_compared, loads)), sides


def feasible(size: Size) -> Size:
    """Give the size that Feast can do: the same, or as many rows a key of fewer keys."""
    if size.keys <= FEAST_KEYS:
        return size
    return replace(size, keys=FEAST_KEYS, rows=size.rows * FEAST_KEYS // size.keys)


def _compared(loads: Mapping[str, _Load], answers: Mapping[str, Path]) -> list[str]:
    """Compare the rows read back with the newest of the source; say how many."""
    lines = []
    for name, file in answers.items():
        load, found = loads[name], pl.read_parquet(file).sort(KEY)
        rows = pl.scan_parquet(load.folder / READINGS)
        wanted = latest(rows.join(found.lazy().select(KEY), on=KEY, how="semi").collect())
        same_bits(found, wanted.select(KEY, *names(load.size.features)), name)
        lines.append(
            f"{name}: {load.size.keys:,} rows in Redis; {found.height:,} keys read back x "
            f"{load.size.features} features, bit for bit"
        )
    return lines


def _notes(options: Options, sizes: Sequence[Size]) -> tuple[str, ...]:
    lines = ["ratio: source rows a second over ours; ours writes all rows to Delta too, Feast none"]
    fewer = [feasible(size) for size in sizes if feasible(size) != size]
    lines += [f"{FEAST}: {one.rows:,} rows, {one.keys:,} keys; rates are compared" for one in fewer]
    if not options.feast:
        lines.append("Feast was left out: it is not installed, or --without-feast was given")
    return tuple(lines)
