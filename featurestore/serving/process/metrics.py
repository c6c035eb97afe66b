"""What is counted, where it stands in a worker's page, and how Prometheus reads it.

A page is a row of 64-bit integers: a header, and a block for each thread, which alone writes it. So
nothing is locked, and no count is lost. The pages of all workers add up. It needs the standard
library alone, for the process that adds them up.
"""

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import pack, unpack

THREADS = 64
"""Most threads that count in a process, each in a block of its own."""

METHODS = ("GetOnlineFeatures", "DescribeService", "Push")
CODES = (
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "DATA_LOSS",
    "UNKNOWN",
)
STAGES = ("queue", "parse", "redis", "compute", "encode")
STATUSES = (
    "UNSPECIFIED",
    "PRESENT",
    "NULL_VALUE",
    "NOT_FOUND",
    "OUTSIDE_MAX_AGE",
    "NOT_YET_KNOWN",
)
"""By their numbers in `featurestore.v1.Status`."""

READY, RELEASE, ARRIVED, SUBMITTED, LOST, BLOCKS, EVICTED = range(7)
"""Places in the header; LOST are calls that a worker before had in hand when it was killed."""
_HEADER = 8

_MILLISECONDS = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 25, 50, 100, 250, 1_000)
_TIMES = tuple(round(one * 1e6) for one in _MILLISECONDS)
_AGES = tuple(
    one * 1_000_000
    for one in (1, 10, 60, 300, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
)
_SIZES = (1, 10, 100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric with a series for each label; with edges a histogram, of integers of `unit`.

    In a block it begins at `start`, and a series takes `width` places: a counter one, a histogram
    its buckets and the sum. A `floating` sum stands there as the bits of a float64, as it would
    outgrow an integer.
    """

    name: str
    help: str
    label: str = ""
    series: tuple[str, ...] = ("",)
    edges: tuple[int, ...] = ()
    unit: float = 1
    floating: bool = False
    start: int = 0
    width: int = 1

    @property
    def end(self) -> int:
        """The first place behind it."""
        return self.start + self.width * len(self.series)

    def observe(self, block: memoryview, value: int, start: int) -> None:
        """Count a value in the histogram whose places begin at `start`."""
        block[start + bisect_left(self.edges, value)] += 1
        block[start + self.width - 1] += value


def _placed(*families: Family) -> Iterator[Family]:
    start = 2  # a block begins with the calls done, and the cells of the one in hand
    for one in families:
        width = len(one.edges) + 2 if one.edges else 1
        placed = replace(one, start=start, width=width)
        yield placed
        start = placed.end


DONE, CELLS = 0, 1
FAMILIES = REQUESTS, LATENCY, STAGE, STATUS, AGE, KEYS, ROWS, REJECTED = tuple(
    _placed(
        Family(
            name="featurestore_requests_total",
            help="Calls answered, by method and gRPC code.",
            label='method="{}",code="{}"',
            series=tuple(f"{method} {code}" for method in METHODS for code in CODES),
        ),
        Family(
            name="featurestore_request_seconds",
            help="From a call's arrival to its answer.",
            label='method="{}"',
            series=METHODS,
            edges=_TIMES,
            unit=1e-9,
        ),
        Family(
            name="featurestore_stage_seconds",
            help="Where the time of lookups goes; the stage redis is one round trip.",
            label='stage="{}"',
            series=STAGES,
            edges=_TIMES,
            unit=1e-9,
        ),
        Family(
            name="featurestore_statuses_total",
            help="Statuses answered, one for each row and projection.",
            label='status="{}"',
            series=STATUSES,
        ),
        Family(
            name="featurestore_event_age_seconds",
            help="Age of the rows answered, by event time.",
            edges=_AGES,
            unit=1e-6,
            floating=True,
        ),
        Family(name="featurestore_keys", help="Keys that a lookup reads.", edges=_SIZES),
        Family(name="featurestore_rows_total", help="Rows asked for in lookups."),
        Family(
            name="featurestore_rejected_total",
            help="Calls turned away: too many or too much in hand, or half their time waited.",
            label='reason="{}"',
            series=("calls", "cost", "wait"),
        ),
    )
)
BLOCK = FAMILIES[-1].end
BYTES = 8 * (_HEADER + THREADS * BLOCK)


class Page:
    """A process's numbers: in its own memory, or in a file's that another process reads."""

    def __init__(self, memory: bytearray | mmap.mmap) -> None:
        self.numbers = memoryview(memory).cast("q")

    @classmethod
    def new(cls) -> "Page":
        """Give an empty page of this process alone."""
        return cls(bytearray(BYTES))

    @classmethod
    def shared(cls, descriptor: int) -> "Page":
        """Give the page in an open file of `BYTES` bytes."""
        return cls(mmap.mmap(descriptor, BYTES))

    @property
    def header(self) -> memoryview:
        """The header's places."""
        return self.numbers[:_HEADER]

    def block(self, number: int) -> memoryview:
        """Give a thread's places."""
        start = _HEADER + number * BLOCK
        return self.numbers[start : start + BLOCK]

    def blocks(self) -> list[memoryview]:
        """Give the places of all threads that counted so far."""
        return [self.block(number) for number in range(self.header[BLOCKS])]

    def in_flight(self) -> int:
        """Give how many calls are taken and not yet answered."""
        header = self.header
        return max(header[SUBMITTED] - header[LOST] - sum(b[DONE] for b in self.blocks()), 0)

    def cells(self) -> int:
        """Give how many values the lookups in hand answer."""
        return sum(block[CELLS] for block in self.blocks())

    def rejected(self) -> int:
        """Give how many calls arrived and were turned away for their number."""
        return max(self.numbers[ARRIVED] - self.numbers[SUBMITTED], 0)

    def begin(self) -> None:
        """Take a page over: what a process before counted stays, what it had in hand is lost."""
        header, blocks = self.header, self.blocks()
        header[READY] = header[RELEASE] = 0
        header[LOST] = header[SUBMITTED] - sum(block[DONE] for block in blocks)
        for block in blocks:
            block[CELLS] = 0


def render(pages: Mapping[int, Page], restarts: int = 0) -> str:
    """Give the metrics of all workers in Prometheus's text format, version 0.0.4."""
    return "\n".join((*_lines(pages, restarts), ""))


def _lines(pages: Mapping[int, Page], restarts: int) -> Iterator[str]:
    blocks = [block.tolist() for page in pages.values() for block in page.blocks()]
    total: list[float] = (
        [sum(column) for column in zip(*blocks, strict=True)] if blocks else [0] * BLOCK
    )
    for family in FAMILIES:
        if family.floating:
            total[family.end - 1] = sum(_float(block[family.end - 1]) for block in blocks)
    total[REJECTED.start] += sum(page.rejected() for page in pages.values())
    for family in FAMILIES:
        yield from _family(family, total)
    yield from _head("featurestore_in_flight", "Calls taken and not yet answered.", "gauge")
    yield f"featurestore_in_flight {sum(page.in_flight() for page in pages.values())}"
    yield from _head("featurestore_cells_in_flight", "Values of lookups in hand.", "gauge")
    yield f"featurestore_cells_in_flight {sum(page.cells() for page in pages.values())}"
    for name, place, said in (
        ("featurestore_ready", READY, "Whether a worker can answer."),
        ("featurestore_release", RELEASE, "The release that a worker answers; 0: none yet."),
        (
            "featurestore_redis_evicted_keys",
            EVICTED,
            "Keys that Redis threw away to make room, since it started, as a worker saw it.",
        ),
    ):
        yield from _head(name, said, "gauge")
        for worker, page in pages.items():
            yield f'{name}{{worker="{worker}"}} {page.header[place]}'
    yield from _head("featurestore_worker_restarts_total", "Workers started anew.", "counter")
    yield f"featurestore_worker_restarts_total {restarts}"


def _float(bits: int) -> float:
    found: float = unpack("<d", pack("<q", bits))[0]
    return found


def _family(family: Family, total: Sequence[float]) -> Iterator[str]:
    yield from _head(family.name, family.help, "histogram" if family.edges else "counter")
    for number, series in enumerate(family.series):
        start = family.start + number * family.width
        label = family.label.format(*series.split())
        told = f"{{{label}}}" if label else ""
        if not family.edges:
            if total[start] or family is not REQUESTS:
                yield f"{family.name}{told} {total[start]}"
            continue
        count: float = 0
        comma = f"{label}," if label else ""
        for edge, found in zip((*family.edges, None), total[start:], strict=False):
            count += found
            upto = "+Inf" if edge is None else f"{edge * family.unit:.12g}"
            yield f'{family.name}_bucket{{{comma}le="{upto}"}} {count}'
        whole = total[start + family.width - 1] * family.unit
        yield f"{family.name}_sum{told} {whole:.12g}"
        yield f"{family.name}_count{told} {count}"


def _head(name: str, said: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"
