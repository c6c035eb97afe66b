"""What a look-up, a push and an ingest answer, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from featurestore.jobs.ingest import Progress
from featurestore.model.time import moment
from featurestore.serving.client.response import OnlineResponse
from featurestore.serving.message.pushed import PushResult

_METRIC = "featurestore_ingest_"


def looked_up(found: OnlineResponse) -> dict[str, Any]:
    """Give an answer as plain values: lists by name, one item per row."""
    return {
        "release": found.release,
        "as_of": found.as_of,
        "versions": found.versions,
        "features": found.to_dict(),
        "statuses": found.statuses,
        "event_times": found.event_times,
    }


def pushed(found: PushResult) -> dict[str, Any]:
    """Give what a push came to; a refusal's row is null where it is about all of them."""
    return {
        "source": found.source,
        "to": found.to,
        "accepted": found.accepted,
        "refused": found.refused_rows,
        "refusals": found.refused.to_dicts(),
        "online": [
            {**asdict(one), "known_at": None if one.known_at is None else moment(one.known_at)}
            for one in found.online
        ],
        "offline": found.offline,
    }


def ingested(done: Progress) -> dict[str, Any]:
    """Give what became of a batch, and how far behind the group is then."""
    return {
        "batch": done.batches,
        "rows": done.rows,
        "refused": done.refused,
        "seconds": done.seconds,
        "total_rows": done.total_rows,
        "total_refused": done.total_refused,
        "lag": asdict(done.lag),
    }


def metrics(done: Progress, labels: Mapping[str, str]) -> str:
    """Give counts and lag as Prometheus reads them of a text file; what is unknown is left out."""
    told = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())
    found = (
        ("entries_behind", "gauge", "Entries that no consumer took yet.", done.lag.entries),
        ("entries_pending", "gauge", "Entries taken and not done.", done.lag.pending),
        ("seconds_behind", "gauge", "Age of the oldest entry not done.", done.lag.seconds),
        ("rows_total", "counter", "Rows taken since the start.", done.total_rows),
        ("refused_total", "counter", "Entries refused since the start.", done.total_refused),
    )
    return "".join(
        f"# HELP {_METRIC}{name} {help_}\n# TYPE {_METRIC}{name} {kind}\n"
        f"{_METRIC}{name}{{{told}}} {value}\n"
        for name, kind, help_, value in found
        if value is not None
    )


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
