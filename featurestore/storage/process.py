"""Which process holds a lease, and whether it is dead: what lets a killed job run again at once.

A process is written as `host/boot/namespace/pid/start`: the machine's name, its boot id, the inode
of the pid namespace, the pid, and the start time in clock ticks since boot (proc(5)), so that a pid
that was given to another process, or one of another container, is never taken for it.
"""

import os
import socket
from pathlib import Path

_PROC = Path("/proc")
_ENDED = ("Z", "X", "x")
"""States of a process that runs no more: a zombie waits for its parent only."""


def this_process() -> str:
    """Give this process's identity; without /proc only host and pid, which is never judged dead."""
    pid = os.getpid()
    machine = _machine()
    start = _start(pid)
    if machine is None or not start:
        return f"{socket.gethostname()}/{pid}"
    return f"{machine}/{pid}/{start}"


def is_dead(process: str) -> bool:
    """Say whether a process certainly runs no more; whatever cannot be known is not dead."""
    machine = _machine()
    parts = process.rsplit("/", 4)
    if machine is None or len(parts) != 5:
        return False
    host, boot, namespace, pid, start = parts
    here, this_boot, this_namespace = machine.rsplit("/", 2)
    if host != here or not pid.isdecimal():
        return False
    if boot != this_boot:
        return True
    if namespace != this_namespace:
        return False
    found = _start(int(pid))
    return _is_gone(int(pid)) if found is None else found != start


def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _start(pid: int) -> str | None:
    """Give the start time of a process, nothing if it has ended, None if it cannot be seen.

    The name in the stat line's second field may hold spaces and brackets: fields count from the
    last closing one.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in _ENDED else fields[18]


def _is_gone(pid: int) -> bool:
    """Tell a process that is not there from one of another user that /proc hides."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
