"""Who is dead: only a process of this machine and namespace that certainly runs no more."""

import os
import subprocess
import sys

import pytest

from featurestore.storage import process
from featurestore.storage.process import is_dead, this_process
from tests.servers import wait_until


def identity(pid):
    """Give the identity of another process of this machine."""
    machine, _, _ = this_process().rsplit("/", 2)
    return f"{machine}/{pid}/{process._start(pid)}"


@pytest.fixture
def child():
    """A process that waits until it is killed."""
    waiting = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def test_this_process_lives():
    """Nobody takes a lease over from a process that runs."""
    assert not is_dead(this_process())
    assert this_process() == this_process() == identity(os.getpid())


def test_a_killed_process_is_dead_also_as_a_zombie(child):
    """As soon as it is killed, whether or not its parent has asked for its end."""
    held = identity(child.pid)
    assert not is_dead(held)
    child.kill()
    wait_until(lambda: is_dead(held))
    assert process._PROC.joinpath(str(child.pid)).exists()
    child.wait()
    assert is_dead(held)


def test_a_pid_that_was_given_to_another_process_is_not_the_holder(child):
    """The start time tells two processes of one pid apart."""
    host, boot, space, pid, start = identity(child.pid).split("/")
    assert is_dead("/".join((host, boot, space, pid, str(int(start) - 1))))


def test_before_a_restart_all_are_dead(child):
    """Another boot of the same machine left nothing running."""
    host, boot, space, pid, start = identity(child.pid).split("/")
    assert is_dead("/".join((host, "0" * len(boot), space, pid, start)))


@pytest.mark.parametrize("field", ["host", "namespace"])
def test_a_process_of_another_machine_or_container_is_not_judged(child, field):
    """Its pid says nothing here; neither is one judged whose host merely restarted elsewhere."""
    names = ("host", "boot", "namespace", "pid", "start")
    parts = dict(zip(names, identity(child.pid).split("/"), strict=True))
    child.kill()
    child.wait()
    assert is_dead("/".join(parts.values()))
    assert not is_dead("/".join((parts | {field: "1"}).values()))


@pytest.mark.parametrize(
    "text", ["", "host/7", "a/b/c/d/e", "/".join(["x"] * 9), "{me}/1", "{machine}/-1/5"]
)
def test_what_is_no_identity_is_never_dead(text):
    """Leases of other builds, or of machines without /proc, end by expiring."""
    machine, _, _ = this_process().rsplit("/", 2)
    assert not is_dead(text.format(me=this_process(), machine=machine))


def test_a_process_that_is_hidden_is_not_dead(child, monkeypatch):
    """Where /proc hides the processes of other users, one that takes signals lives."""
    held = identity(child.pid)
    monkeypatch.setattr(process, "_start", lambda _: None)
    assert not is_dead(held)
    child.kill()
    child.wait()
    assert is_dead(held)


def test_without_proc_nobody_is_judged(child, monkeypatch, tmp_path):
    """Where processes cannot be seen, an identity is host and pid and never dead."""
    held = identity(child.pid)
    child.kill()
    child.wait()
    monkeypatch.setattr(process, "_PROC", tmp_path)
    assert this_process().split("/")[1:] == [str(os.getpid())]
    assert not is_dead(held)
    assert not is_dead(this_process())
