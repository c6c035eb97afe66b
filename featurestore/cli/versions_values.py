"""What the commands of versions answer, as plain values for JSON."""

from dataclasses import asdict
from typing import Any

from featurestore.cli.values import text, texts, when
from featurestore.jobs.collect import Collection
from featurestore.jobs.locks import Kept
from featurestore.jobs.publish import Published
from featurestore.jobs.verify import Verified
from featurestore.jobs.versions import Compared, Shown, Stored
from featurestore.model.lineage import Lineage
from featurestore.model.lock import Lock
from featurestore.model.needs import Registered
from featurestore.model.time import Interval
from featurestore.storage.documents import Entry


def verified(found: Verified) -> dict[str, Any]:
    """Give a verification as plain values: each law's outcome, and every value that differs."""
    return {
        "alias": found.alias,
        "equal": found.differences.is_empty(),
        "versions": found.versions,
        "checks": [
            {
                "law": check.law,
                "subject": check.subject,
                "compared": check.compared,
                "differ": check.differences.height,
                "skipped": check.skipped,
            }
            for check in found.checks
        ],
        "differences": found.differences.rename({"check": "law"}).to_dicts(),
    }


def published(alias: str, found: Published) -> dict[str, Any]:
    """Give what an alias names now as plain values."""
    release = found.release
    return {
        "alias": alias,
        "release": release.number,
        "new": found.fresh,
        "restores": release.restores,
        "views": [
            {
                "version": live.view.version,
                "table": live.table.id if live.table else None,
                "complete_up_to": when(live.watermark),
            }
            for live in release.views
        ],
    }


def collection(found: Collection, *, removed: bool) -> dict[str, Any]:
    """Give what is removed, or would be, and what stays with the reasons."""
    return {
        "removed": removed,
        "tables": [
            {
                "version": one.view.version,
                "table": one.table.id,
                "rows": one.rows,
                "bytes": one.bytes,
                "written": when(one.written),
            }
            for one in found.tables
        ],
        "releases": found.releases,
        "kept": [
            {"version": need.view.version, "table": need.table.id, "reasons": need.reasons}
            for need in found.kept
        ],
    }


def kept(found: Kept) -> dict[str, Any]:
    """Give what registering a lock did."""
    return {
        "id": found.registered.id,
        "owner": found.registered.owner,
        "expires": when(found.registered.expires),
        "versions": versions(found.registered.lock),
        "warmed": found.warmed,
        "collected": found.collected,
    }


def registered(one: Registered, now: int) -> dict[str, Any]:
    """Give a registered lock: what it asks for, until when, and how it stands now."""
    return {
        "id": one.id,
        "owner": one.owner,
        "state": state(one, now),
        "service": one.lock.service,
        "features": [output.name for output in one.lock.outputs],
        "versions": versions(one.lock),
        "rows": one.lock.rows,
        "registered": when(one.registered),
        "expires": when(one.expires),
        "retired": when(one.retired),
    }


def state(one: Registered, now: int) -> str:
    """Say in a word how a lock stands at a moment."""
    if one.retired is not None:
        return "retired"
    return "registered" if one.holds(now) else "expired"


def versions(lock: Lock) -> list[str]:
    """Give the versions that a lock names."""
    return [f"{one.name}@{one.id[:12]}" for one in lock.views]


def shown(found: Shown, now: int) -> dict[str, Any]:
    """Give a version with its states, tables, releases and locks."""
    view = found.view
    return {
        "name": view.name,
        "version": view.id,
        "kind": view.kind,
        "description": view.info.description,
        "registered": when(found.registered),
        "states": [asdict(one) for one in found.states],
        "keys": [asdict(key) for key in view.join_keys],
        "source": view.source.name if view.source else None,
        "path": view.source.path if view.source else None,
        "request_data": [asdict(column) for column in view.request],
        "filter": None if view.filter is None else text(view.filter, f"{view.name}.filter"),
        "ttl": None if view.ttl is None else view.ttl / 1e6,
        "features": [
            {"name": f.name, "id": f.id, "dtype": f.dtype, "expression": text}
            for f, text in zip(view.features, texts(view), strict=True)
        ],
        "tables": [_stored(one) for one in found.tables],
        "releases": [
            {"number": number, "aliases": aliases} for number, aliases in found.releases.items()
        ],
        "warm_in": found.warm,
        "locks": [registered(one, now) for one in found.locks],
    }


def _stored(one: Stored) -> dict[str, Any]:
    return {
        "table": one.table.id,
        "generation": one.table.generation,
        "rows": one.rows,
        "bytes": one.bytes,
        "intervals": [_interval(interval) for interval in one.covered],
        "verified": one.verified,
        "reasons": one.reasons,
    }


def _interval(one: Interval) -> dict[str, Any]:
    return {"start": when(one.start), "end": when(one.end)}


def compared(found: Compared) -> dict[str, Any]:
    """Give what changes from one version or release to another."""
    return {
        "before": found.before,
        "after": found.after,
        "changes": [asdict(change) for change in found.changes],
        "tables": [
            {"version": version, "before": before, "after": after}
            for version, before, after in found.tables
        ],
    }


def lineage(found: Lineage) -> dict[str, Any]:
    """Give a graph as nodes and edges, by the nodes' ids."""
    return {
        "nodes": [asdict(node) for node in found.nodes],
        "edges": [{"from": before, "to": after} for before, after in found.edges],
    }


def entry(one: Entry) -> dict[str, Any]:
    """Give a line of the audit."""
    return {**asdict(one), "at": when(one.at)}
