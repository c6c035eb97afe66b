"""What every case shares: how it is asked, timed and weighed. Imports nothing heavy."""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Case = Callable[..., Mapping[str, Any]]
_MIB = 1 << 20


def main(*cases: Case) -> int:
    """Run the case that the first argument names with the JSON arguments of the second.

    Prints what it measured as the last line.
    """
    named = {case.__name__: case for case in cases}
    measured = named[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write("\n" + json.dumps(dict(measured)) + "\n")
    return 0


def timed(work: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """Run a piece of work once; give its result, the seconds and the process's memory in MiB.

    `peak MiB` is of the whole process up to the end of the work, `MiB before` what it held when the
    work began: the interpreter, the imports and the entity rows.
    """
    before = _status("VmRSS")
    began = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - began
    return made, {"seconds": seconds, "peak MiB": _status("VmHWM"), "MiB before": before}


def _status(name: str) -> float:
    """Give a figure of this process in MiB.

    Linux starts `ru_maxrss` of a child at its parent's, so the peak is read from /proc there.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / _MIB if sys.platform == "darwin" else most / 1024
    line = next(one for one in status.read_text("utf-8").splitlines() if one.startswith(name))
    return int(line.split()[1]) / 1024


def answer(frame: Any, path: str | None) -> None:
    """Keep a Polars answer for the comparison, after all is measured."""
    if path is not None:
        frame.write_parquet(path)
