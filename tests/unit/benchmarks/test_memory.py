"""The memory limit holds for a process and all it starts."""

import subprocess
import sys

import pytest

HOLD = "import sys, time; held = bytearray({mib} << 20); print(1, flush=True); sys.stdin.read()"
PARENT = (
    "import subprocess, sys; "
    "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True, stdin=sys.stdin)"
)


@pytest.fixture
def memory(benchmark):
    """The module of memory limits."""
    return benchmark("memory")


def started(*command):
    """Start Python with a pipe to end it by."""
    return subprocess.Popen(
        [sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("command", [(HOLD.format(mib=200),), (PARENT, HOLD.format(mib=200))])
def test_what_holds_more_than_its_limit_is_killed(memory, command):
    """The process itself, or one that it started."""
    with started(*command) as process:
        assert memory.watched(process, 120) > 120
        assert process.wait() < 0


def test_what_stays_within_its_limit_ends_by_itself(memory):
    """Nothing is killed below the limit, and the end is seen."""
    with started("held = bytearray(10 << 20)") as process:
        assert memory.watched(process, 500) is None
        assert process.returncode == 0


def test_a_process_is_seen_with_what_it_started(memory):
    """The memory of one that ended is nothing."""
    with started(PARENT, HOLD.format(mib=50)) as process:
        process.stdout.readline()
        assert len(memory.family(process.pid)) == 2
        assert sum(map(memory.resident, memory.family(process.pid))) > 50
        process.stdin.close()
    assert memory.resident(process.pid) == 0
