"""Jobs under strace, which kills them at a system call, or makes the call fail."""

import re
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from shutil import which

from tests.faults.dying import traced
from tests.faults.states import CONTEXT

KILL = "signal=SIGKILL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What becomes of the `number`-th call of a kind (strace counts by thread) on some paths.

    Without paths all calls count; `becomes` is what strace injects, as in `error=EIO`.
    """

    call: str
    paths: tuple[Path, ...] = ()
    number: int = 1
    becomes: str = KILL


@cache
def why_not():
    """Say why no process can be traced here, or None."""
    if which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        try:
            tracer, told = attach(sleeping.pid, "-e", "trace=none")
        finally:
            sleeping.kill()
        tracer.communicate()
    return None if "attached" in told else f"tracing is forbidden: {told.strip()}"


def attach(pid, *options):
    """Attach strace to a process and its threads; gives the tracer and its first words."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), *options], stderr=subprocess.PIPE, text=True
    )
    return tracer, tracer.stderr.readline()


def under(repo, url, now, job, *options):
    """Run a job under strace; gives its exit code and the store's error, if it lived to tell."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=traced, args=(repo, url, now, job, theirs))
    process.start()
    theirs.close()
    tracer, told = attach(process.pid, *options)
    assert "attached" in told, told
    with tracer:
        ours.send("go")
        process.join()
        tracer.communicate()
    try:
        return process.exitcode, ours.recv()
    except EOFError:
        return process.exitcode, None


def struck(repo, url, now, job, fault):
    """Run a job that a fault strikes; gives its exit code and the store's error."""
    inject = f"inject={fault.call}:{fault.becomes}:when={fault.number}"
    return under(repo, url, now, job, *_only(fault), "-e", inject, "-o", "/dev/null")


def calls(repo, url, now, job, fault, log):
    """Count the calls of a fault's kind and paths in an undisturbed run."""
    code, failed = under(repo, url, now, job, *_only(fault), "-o", str(log))
    assert (code, failed) == (0, None)
    return len(re.findall(rf"^\d+ +{fault.call}\(", log.read_text(), re.MULTILINE))


def strikes(repo, url, now, job, fault, most, log):
    """Give a fault at some of its calls, spread from the first to the last; leaves the repo run."""
    number = calls(repo, url, now, job, fault, log)
    assert number, f"{job} makes no {fault.call} there"
    chosen = {1 + round(step * (number - 1) / max(1, most - 1)) for step in range(most)}
    return [replace(fault, number=one) for one in sorted(chosen)]


def table_of(repo):
    """Give the folder of the repo's one table."""
    (table,) = (repo / ".featurestore" / "offline" / "shop" / "history").iterdir()
    return table


def registry_files(repo):
    """Give the files that a registry writes to, and their folder, which it syncs."""
    home = repo / ".featurestore"
    return home, home / "registry.db", home / "registry.db-journal"


def log_files(repo, number=1):
    """Give the names under which the next entries of the table's log are written."""
    log = table_of(repo) / "_delta_log"
    there = len(list(log.glob("*.json")))
    return tuple(log / f"{there + one:020}.json#1" for one in range(number))


def _only(fault):
    paths = [option for path in fault.paths for option in ("-P", str(path))]
    return ["-e", f"trace={fault.call}", *paths]
