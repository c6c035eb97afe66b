"""The laws of what a server says of itself."""

import json
import logging
import os
import sys
from pathlib import Path

from featurestore.serving.process.calls import request_id
from featurestore.serving.process.log import Lines, Objects, Sampler, announce, told


def record(message: str, *args: object, **more: object) -> logging.LogRecord:
    """Make a record as a logger does."""
    return logging.getLogger("x").makeRecord(
        "x", logging.WARNING, "x.py", 1, message, args, None, extra=more or None
    )


def test_a_record_is_one_json_object_on_one_line():
    """Whatever is in it: its fields, its message, the moment in UTC."""
    one = record("a\n%s", "b", **told("slow", id="i", stages={"redis": 1.5}))
    one.created, one.msecs = 0.25, 250.0
    line = Objects(3).format(one)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "worker": 3,
        "event": "slow",
        "id": "i",
        "stages": {"redis": 1.5},
        "message": "a\nb",
    }


def test_a_person_reads_the_message_and_the_worker():
    """Fields are for programs."""
    assert Lines(2).format(record("said %d", 1, **told("x", id="i"))).endswith("worker 2: said 1")
    assert Lines().format(record("said")).endswith(" said")


def test_a_sampler_tells_how_many_it_passed_over():
    """One a second, and no more; the first at once."""
    sampler = Sampler(1.0)
    assert [sampler.take(now) for now in (5.0, 5.1, 5.9, 6.0, 7.5)] == [0, None, None, 2, 0]


def test_an_id_is_taken_only_if_it_is_one():
    """What a caller sends cannot break a log line, nor fill it."""
    assert request_id("trace-1/span:2") == "trace-1/span:2"
    assert request_id("x" * 128) == "x" * 128
    for sent in (None, "", "a b", "a\nb", "ä", "x" * 129, b"x", '"'):
        made = request_id(sent)
        assert len(made) < 32
        assert made != request_id(sent)


def test_an_address_that_nobody_hears_does_not_end_the_server(monkeypatch, caplog):
    """A full disk, a reader that has gone, or no standard output at all: it serves on."""
    reader, writer = os.pipe()
    os.close(reader)
    for unheard in (Path("/dev/full").open("w"), os.fdopen(writer, "w")):  # noqa: SIM115
        with unheard:
            monkeypatch.setattr(sys, "stdout", unheard)
            announce("127.0.0.1:1")
    monkeypatch.setattr(sys, "stdout", None)
    announce("127.0.0.1:1")
    assert [one.told["event"] for one in caplog.records] == ["unheard"] * 2
