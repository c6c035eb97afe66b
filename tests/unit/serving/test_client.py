"""The laws of what a caller may bring to the client."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from featurestore.errors import CorruptData, InvalidRequest
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.client.response import read_response
from featurestore.serving.message import twin
from tests.servers import free_port

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"entity_rows": [{"a": 1}], "entities": {"a": [1]}}, "entities: came as entity_rows"),
    "no rows": ({"entity_rows": []}, "entity_rows: is empty"),
    "ragged rows": ({"entity_rows": [{"a": 1}, {"a": 1, "b": 2}]}, "not every row has 'b'"),
    "rows of no names": ({"entity_rows": ["ab"]}, "entity_rows: are not mappings by column"),
    "one row alone": ({"entity_rows": {"a": 1}}, "entity_rows: are not mappings"),
    "a frame as rows": ({"entity_rows": pl.DataFrame({"a": [1]})}, "entity_rows: are not mappings"),
    "no rows at all": ({"entity_rows": 5}, "entity_rows: are not mappings"),
    "ragged columns": ({"entities": {"a": [1], "b": [1, 2]}}, "entities: cannot be read"),
    "mixed types": ({"entities": {"a": [1, "x"]}}, "entities: cannot be read"),
    "no frame": ({"entities": [1, 2]}, "entities: list is no frame; bring a pandas or Polars"),
    "text": ({"request_data": "x"}, "request_data: str is no frame"),
    "dtype": ({"entities": {"a": [b"x"]}}, r"entities\.a: dtype Binary is not supported"),
    "heights": (
        {"entities": {"a": [1]}, "request_data": {"b": [1, 2]}},
        "request_data: has 2 rows, the entities 1",
    ),
    "an age": ({"max_age": 5}, "max_age: 5 is no age; pass a timedelta above 0"),
    "no age": ({"max_age": timedelta(0)}, "max_age: .* is no age"),
    "no time": ({"timeout": 0}, "timeout: 0 is no number of seconds; pass one above 0"),
    "no number": ({"timeout": float("nan")}, "timeout: nan is no number of seconds"),
    "a time beyond gRPC's": ({"timeout": 1e10}, r"timeout: .* and of a day at most \(86,400\)"),
    "a time beyond all": ({"timeout": 10**400}, "timeout: .* is no number of seconds"),
}


@pytest.mark.parametrize(("brought", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_columns_is_refused_before_it_is_sent(
    brought: dict[str, Any], message: str
) -> None:
    """The caller learns of it without a server."""
    with (
        FeatureClient(f"127.0.0.1:{free_port()}") as client,
        pytest.raises(InvalidRequest, match=message),
    ):
        client.get_online_features("service", **brought)


FEATURES = {
    "a number": (5, r"features: int names no features; pass a service's name, or a list"),
    "bytes": (b"view:a", r"features: bytes names no features"),
    "a mapping": ({"view:a": 1}, r"features: dict names no features"),
    "a number among them": (["view:a", 1], r"features\[1\]: int is no reference; write 'view:"),
    "nothing": (None, r"features: none asked for"),
    "half a character": ("\ud800", r"features: '\\ud800' is not Unicode; write it in UTF-8"),
    "half a character among them": (["view:\ud800"], r"features: .* is not Unicode"),
}


@pytest.mark.parametrize(("asked", "message"), FEATURES.values(), ids=FEATURES)
def test_what_names_no_features_is_refused_before_it_is_sent(asked: Any, message: str) -> None:
    """A lookup asks for a service's name or for a list of references, and says so."""
    with (
        FeatureClient(f"127.0.0.1:{free_port()}") as client,
        pytest.raises(InvalidRequest, match=message),
    ):
        client.get_online_features(asked, entities={"a": [1]})


@pytest.mark.parametrize("source", [None, 5, "", b"landings", ["landings"]])
def test_a_source_is_named_by_text(source: Any) -> None:
    """Anything else is refused before it is sent."""
    with (
        FeatureClient(f"127.0.0.1:{free_port()}") as client,
        pytest.raises(InvalidRequest, match="push_source_name: give the PushSource's name, not "),
    ):
        client.push(source, {"a": [1]})


def test_half_a_character_names_nothing() -> None:
    """Text that no message can carry, as of a file's name, is refused before it is sent."""
    with FeatureClient(f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(InvalidRequest, match=r"push_source_name: .* is not Unicode"):
            client.push("\ud800", {"a": [1]})
        with pytest.raises(InvalidRequest, match=r"service: .* is not Unicode"):
            client.describe("\ud800")


def test_the_longest_age_is_any_age() -> None:
    """An age beyond the calendar is sent as all of it: nothing is older."""
    longest, _ = request_message("service", max_age=timedelta.max)
    calendar = datetime(9999, 12, 31, tzinfo=UTC) - datetime(1, 1, 1, tzinfo=UTC)
    assert timedelta(microseconds=longest.max_age) >= calendar


def test_rows_may_be_read_once() -> None:
    """A generator of rows is as good as a list."""
    message, brought = request_message("service", (row for row in [{"a": 1}, {"a": 2}]))
    assert (message.count, brought["a"].to_list()) == (2, [1, 2])


def test_half_an_answer_is_corrupt_data() -> None:
    """A reply whose arrays are cut short is an error, never numbers."""
    reply = twin.GetOnlineFeaturesResponse(names=["a"], output_projections=[0], count=2)
    reply.projections.add().alias = "view"
    reply.statuses = b"\x01"
    with pytest.raises(CorruptData, match="not whole"):
        read_response(reply.SerializeToString(), pl.DataFrame())


def test_times_are_utc_and_absent_where_nothing_was_found() -> None:
    """Event times come as aware datetimes; a row not found has none."""
    reply = twin.GetOnlineFeaturesResponse(names=["a"], output_projections=[0], count=2)
    reply.projections.add().alias = "view"
    reply.statuses = b"\x01\x03"
    reply.event_times = (1_000_000).to_bytes(8, "little") + bytes(8)
    block = reply.blocks.add()
    block.outputs.append(0)
    block.values.type = 1
    block.values.bools = b"\x01\x00"
    found = read_response(reply.SerializeToString(), pl.DataFrame())
    assert found.event_times == {"a": [datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), None]}
    assert found.statuses == {"a": ["PRESENT", "NOT_FOUND"]}


def test_ages_are_counted_from_the_moment_of_the_answer() -> None:
    """An age is as_of less the event time, and absent where no stored row was found."""
    reply = twin.GetOnlineFeaturesResponse(names=["a", "b"], output_projections=[0, 1], count=2)
    reply.projections.add().alias = "view"
    reply.projections.add(alias="computed", on_demand=True)
    reply.statuses = b"\x01\x03\x01\x01"
    reply.event_times = (1_000_000).to_bytes(8, "little") + bytes(24)
    reply.as_of = 61_000_000
    values = reply.blocks.add(outputs=[0, 1]).values
    values.type, values.bools = 1, b"\x01\x00\x01\x01"
    found = read_response(reply.SerializeToString(), pl.DataFrame())
    assert found.ages == {"a": [timedelta(minutes=1), None], "b": [None, None]}


BROKEN: dict[str, tuple[list[int], list[int]]] = {
    "an output without a column": ([0], [0, 0]),
    "an output with two": ([0, 1, 1], [0, 0]),
    "a projection that is not there": ([0, 1], [0, 1]),
    "an output without a projection": ([0, 1], [0]),
}


@pytest.mark.parametrize(("outputs", "origins"), BROKEN.values(), ids=BROKEN)
def test_an_answer_that_contradicts_itself_is_corrupt_data(
    outputs: list[int], origins: list[int]
) -> None:
    """Each output has one column and one projection, or nothing is answered."""
    reply = twin.GetOnlineFeaturesResponse(names=["a", "b"], output_projections=origins, count=1)
    reply.projections.add().alias = "view"
    reply.statuses, reply.event_times = b"\x01", bytes(8)
    values = reply.blocks.add(outputs=outputs).values
    values.type, values.bools = 1, b"\x01" * len(outputs)
    with pytest.raises(CorruptData, match="not whole"):
        read_response(reply.SerializeToString(), pl.DataFrame())
