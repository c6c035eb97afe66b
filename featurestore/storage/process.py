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
    if machine is None or start is None:
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
    return namespace == this_namespace and _start(int(pid)) != start


def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return None
    return f"{socket.gethostname()}/{boot}/{namespace}"


def _start(pid: int) -> str | None:
    """Give the start time of a living process, or None.

    The name in the stat line's second field may hold spaces and brackets: fields count from the
    last closing one.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _ENDED else fields[18]
