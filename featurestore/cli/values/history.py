"""What there is, and was, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from featurestore.cli.values.locks import registered
from featurestore.cli.values.plain import interval, texts, when
from featurestore.jobs.compact import SOURCE as COMPACTION
from featurestore.jobs.versions import Compared, Shown, Stored
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Project, Service, View
from featurestore.model.lineage import Lineage
from featurestore.model.query import resolve
from featurestore.model.shown import expression_text
from featurestore.storage.documents import Entry
from featurestore.storage.ledger import Run

NEITHER = {"start": None, "end": None}


def project(
    found: Project, marks: Mapping[str, int | None], live: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Give the applied views and services as plain values."""
    return {
        "project": found.name,
        "views": [
            {
                "name": v.name,
                "version": v.id,
                "kind": v.kind,
                "features": [f.name for f in v.features],
                "complete_up_to": when(marks.get(v.name)),
                "live_in": live[v.name],
            }
            for v in found.views
        ],
        "services": [{"name": s.name, "id": s.id} for s in found.services],
    }


def view(found: View, mark: int | None) -> dict[str, Any]:
    """Give one view as plain values; `ttl` in seconds."""
    return {
        "name": found.name,
        "version": found.id,
        "kind": found.kind,
        "description": found.info.description,
        "keys": [asdict(key) for key in found.join_keys],
        "source": found.source.name if found.source else None,
        "path": found.source.path if found.source else None,
        "request_data": [asdict(column) for column in found.request],
        "ttl": None if found.ttl is None else found.ttl / 1e6,
        "complete_up_to": when(mark),
        "features": [
            {"name": f.name, "dtype": f.dtype, "expression": text}
            for f, text in zip(found.features, texts(found), strict=True)
        ],
    }


def service(found: Service, views: Mapping[str, View]) -> dict[str, Any]:
    """Give one service as plain values: what a request brings and what it answers, in order."""
    asked = resolve(found.projections, Catalog(current=views), full_feature_names=True)
    versions = {p.alias: views[p.view].version for p in found.projections}
    return {
        "name": found.name,
        "id": found.id,
        "description": found.info.description,
        "entities": [asdict(column) for column in asked.entities],
        "request_data": [asdict(column) for column in asked.request],
        "features": [
            {
                "name": f"{one.alias}:{one.feature.name}",
                "dtype": one.feature.dtype,
                "version": versions[one.alias],
            }
            for one in asked.outputs
        ],
    }


def shown(found: Shown, now: int) -> dict[str, Any]:
    """Give a version with its states, tables, releases and locks."""
    view, path = found.view, f"{found.view.name}.filter"
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
        "filter": None if view.filter is None else expression_text(view.filter, path),
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
        "intervals": [interval(one) for one in one.covered],
        "verified": one.verified,
        "reasons": one.reasons,
    }


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


def run(one: Run) -> dict[str, Any]:
    """Give a run; `source` names the state that its source was in, null where it is not known.

    A compaction has no `start` and `end`: it holds no rows, and only makes fewer files.
    `seconds` is how long it took to write, `served` and `repaired` are rows and keys of Redis.
    """
    took = None if one.finished is None else (one.finished - one.started) / 1e6
    return {
        "id": one.id,
        "view": one.view,
        "version": one.version,
        "table": one.table_id,
        **(NEITHER if one.source == COMPACTION else interval(one.interval)),
        "source": one.source or None,
        "state": one.state,
        "changed": None if one.delta_version is None else one.delta_version != one.base_version,
        "rows": one.rows,
        "served": one.served,
        "repaired": one.repaired,
        "data": None if one.delta_version is None else f"{one.table_id}/{one.delta_version}",
        "started": when(one.started),
        "finished": when(one.finished),
        "seconds": took,
    }


def entry(one: Entry) -> dict[str, Any]:
    """Give a line of the audit."""
    return {**asdict(one), "at": when(one.at)}
