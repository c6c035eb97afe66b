"""The memory that processes hold, and a limit on it.

Resident memory is summed over a process and all it started every 50 ms; above the limit they are
killed. That needs no right over cgroups, and unlike RLIMIT_AS does not count what an allocator
reserves and never touches. A peak between two looks would be missed: who sets a limit also compares
the kernel's own high-water mark afterwards.
"""

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

EVERY = 0.05
"""Seconds between two looks."""


def watched(process: "subprocess.Popen[str]", limit: float) -> float | None:
    """Wait for a process to end; give the MiB it held when it was killed for them, or None."""
    while process.poll() is None:
        tree = family(process.pid)
        held = sum(map(resident, tree))
        if held > limit:
            for pid in tree:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return held
        time.sleep(EVERY)
    return None


def family(pid: int) -> list[int]:
    """Give a process and all that descend from it, parents first; without /proc, itself alone."""
    found = [pid]
    for one in found:
        for file in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, file.read_text("utf-8").split())
    return found


def worked(pid: int) -> float:
    """Give the seconds of processor time that a process took so far; 0 where there is no /proc."""
    file = Path(f"/proc/{pid}/stat")
    if not file.is_file():
        return 0.0
    fields = file.read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(pid: int) -> tuple[int, int]:
    """Give how often a process's threads that live gave the processor up, and were made to.

    (0, 0) where there is no /proc.
    """
    given = forced = 0
    for file in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            told = dict(line.split(":", 1) for line in file.read_text("utf-8").splitlines())
            given += int(told["voluntary_ctxt_switches"])
            forced += int(told["nonvoluntary_ctxt_switches"])
    return given, forced


def children() -> float:
    """Give the seconds of processor time that this process's ended children took so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(pid: int) -> float:
    """Give the memory that a process holds now, in MiB; 0 of one that ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        told = ["ps", "-o", "rss=", "-p", str(pid)]
        done = subprocess.run(told, capture_output=True, text=True, check=False)
        return int(done.stdout or 0) / 1024
    return int(next((one.split()[1] for one in lines if one.startswith("VmRSS")), 0)) / 1024
