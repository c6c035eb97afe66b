"""Lineage: from sources to views, their versions, services and locks, as one graph of what is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from featurestore.model.documents import Service, View
from featurestore.model.facts import Facts, Registered
from featurestore.model.time import show

Kind = Literal["source", "view", "version", "service", "lock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing of the graph; `name` is what people call it, `note` what there is to know of it."""

    id: str
    kind: Kind
    name: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A graph without cycles: every edge leads from a node's id to what is made of it."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]

    def roots(self) -> tuple[Node, ...]:
        """Give the nodes to draw the graph from: all others are below one of them.

        A view that is computed from other views has no source, but its versions are below theirs.
        """
        made = {after for _, after in self.edges}
        shown = {after for before, after in self.edges if not before.startswith("view/")}
        return tuple(
            node
            for node in self.nodes
            if node.id not in made
            and not (node.kind == "view" and shown.issuperset(o.id for o in self._after(node)))
        )

    def below(self, node: Node, above: Sequence[Node] = ()) -> tuple[Node, ...]:
        """Give the nodes to draw below one that is itself drawn below others.

        Under a version stand only services and locks of all the versions above it too, and none
        that can be drawn further below.
        """
        versions = [one for one in above if one.kind == node.kind == "version"]
        kept = [
            one
            for one in self._after(node)
            if one.kind == "version" or all(one in self._after(over) for over in versions)
        ]
        return tuple(one for one in kept if not any(one in self._after(o) for o in kept))

    def around(self, name: str) -> "Lineage":
        """Give what a name is made of and what is made of it; empty if nothing is called so.

        A source, view or service is named as it is, a version as `view@digest`, a lock by its id;
        of digests and ids 4 digits are enough.
        """
        chosen = {node.id for node in self.nodes if _called(node, name)}
        before = {(after, before) for before, after in self.edges}
        kept = chosen | _reached(chosen, self.edges) | _reached(chosen, before)
        return Lineage(
            nodes=tuple(node for node in self.nodes if node.id in kept),
            edges=tuple(edge for edge in self.edges if kept.issuperset(edge)),
        )

    def _after(self, node: Node) -> tuple[Node, ...]:
        made = {after for before, after in self.edges if before == node.id}
        return tuple(one for one in self.nodes if one.id in made)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """A service with the versions that it reads, where it is asked for."""

    service: Service
    versions: frozenset[str]
    where: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"service/{self.service.name}/{','.join(self.where)}"


def lineage(facts: Facts) -> Lineage:
    """Give the graph of all that is applied, live, stored or held by a lock.

    A service stands there once for each set of versions that it reads: as it is applied, and as
    each alias answers it.
    """
    versions = {view.id: view for view in _versions(facts)}
    reads = {id_: {v.id for v in _read(view, versions)} for id_, view in versions.items()}
    uses = _uses(facts, reads)
    holding = [one for one in facts.locks if one.holds(facts.now)]
    nodes = dict[str, Node]()
    for node in (
        *(_source(view) for view in versions.values() if view.source),
        *(Node(id=f"view/{v.name}", kind="view", name=v.name) for v in versions.values()),
        *(_version(facts, view) for view in versions.values()),
        *(_service(use) for use in uses),
        *(_lock(one) for one in holding),
    ):
        nodes.setdefault(node.id, node)
    edges = [
        *(edge for view in versions.values() for edge in _made(view, reads[view.id])),
        *((f"version/{id_}", use.id) for use in uses for id_ in use.versions),
        *(edge for one in holding for edge in _held(one, uses)),
    ]
    there = [edge for edge in dict.fromkeys(edges) if nodes.keys() >= set(edge)]
    return Lineage(nodes=tuple(nodes.values()), edges=tuple(sorted(there)))


def _versions(facts: Facts) -> Iterator[View]:
    """Give the versions that are applied, live, stored or locked, by name and then by age."""
    live = [one.view for number in facts.aliases.values() for one in facts.releases[number].views]
    ids = {view.id for view in (*(facts.head.views if facts.head else ()), *live)}
    ids |= {v.id for o in facts.locks if o.holds(facts.now) for v in o.lock.views}
    stored = {table.data_id for table in facts.tables}
    known = sorted(facts.versions.values(), key=lambda view: view.name)
    return (view for view in known if view.id in ids or view.data_id in stored)


def _uses(facts: Facts, reads: Mapping[str, set[str]]) -> tuple[_Use, ...]:
    """Give every service with all the versions it reads, as applied and in each alias."""
    asked = list[tuple[str, Sequence[Service], dict[str, str]]]()
    if facts.head:
        applied = {view.name: view.id for view in facts.head.views}
        asked.append(("applied", facts.head.services, applied))
    for alias, number in sorted(facts.aliases.items()):
        release = facts.releases[number]
        live = {one.view.name: one.view.id for one in release.views}
        asked.append((f"live in {alias}", release.services, live))
    found = dict[tuple[str, frozenset[str]], _Use]()
    for where, services, views in asked:
        for service in services:
            versions = {views[p.view] for p in service.projections if p.view in views}
            beneath = {read for id_ in versions for read in reads.get(id_, ())}
            key = (service.id, frozenset(versions | (beneath & {*views.values()})))
            places = (*found[key].where, where) if key in found else (where,)
            found[key] = _Use(service=service, versions=key[1], where=places)
    return tuple(sorted(found.values(), key=lambda use: (use.service.name, use.where)))


def _made(view: View, reads: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Lead to a version: from its source over its view, and from the versions that it reads."""
    if view.source:
        yield f"source/{view.source.name}", f"view/{view.name}"
    yield f"view/{view.name}", f"version/{view.id}"
    yield from ((f"version/{read}", f"version/{view.id}") for read in reads)


def _read(view: View, versions: Mapping[str, View]) -> Iterator[View]:
    """Give the stored versions that hold every feature an on-demand version reads of their view."""
    asked = dict[str, set[str]]()
    uses = {projection.alias: projection.view for projection in view.projections}
    for one in view.inputs:
        if one.projection is not None and one.feature_id is not None:
            asked.setdefault(uses[one.projection], set()).add(one.feature_id)
    for other in versions.values():
        ids = {feature.id for feature in other.features}
        if other.name in asked and asked[other.name] <= ids:
            yield other


def _held(registered: Registered, uses: Sequence[_Use]) -> Iterator[tuple[str, str]]:
    """Lead to a lock from the service it is of, else from the versions it names."""
    named = {view.id for view in registered.lock.views}
    served = [
        use for use in uses if use.service.name == registered.lock.service and use.versions <= named
    ]
    below = {id_ for use in served for id_ in use.versions}
    yield from ((use.id, f"lock/{registered.id}") for use in served)
    yield from ((f"version/{id_}", f"lock/{registered.id}") for id_ in sorted(named - below))


def _source(view: View) -> Node:
    assert view.source is not None
    name = view.source.name
    return Node(id=f"source/{name}", kind="source", name=name, note=view.source.path)


def _version(facts: Facts, view: View) -> Node:
    head = facts.head.views if facts.head else ()
    notes = ["applied"] if any(one.id == view.id for one in head) else []
    notes += [
        f"live in {alias}"
        for alias, number in sorted(facts.aliases.items())
        if any(one.view.id == view.id for one in facts.releases[number].views)
    ]
    if not notes and any(table.data_id == view.data_id for table in facts.tables):
        notes = ["stored"]
    return Node(id=f"version/{view.id}", kind="version", name=view.version, note=", ".join(notes))


def _service(use: _Use) -> Node:
    return Node(id=use.id, kind="service", name=use.service.name, note=", ".join(use.where))


def _lock(one: Registered) -> Node:
    until = "" if one.expires is None else f", until {show(one.expires)}"
    return Node(id=f"lock/{one.id}", kind="lock", name=one.id[:12], note=f"of {one.owner}{until}")


_SHORTEST = 4


def _called(node: Node, name: str) -> bool:
    if node.name == name:
        return True
    view, at, digest = name.partition("@")
    if node.kind == "version":
        whole = f"{node.name.partition('@')[0]}@{node.id.partition('/')[2]}"
        return bool(at) and len(digest) >= _SHORTEST and whole.startswith(f"{view}@{digest}")
    whole = node.id.partition("/")[2]
    return node.kind == "lock" and len(name) >= _SHORTEST and whole.startswith(name)


def _reached(start: Iterable[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """Give the ids that edges lead to from some ids."""
    after = dict[str, list[str]]()
    for one, two in edges:
        after.setdefault(one, []).append(two)
    found, todo = set[str](), list(start)
    while todo:
        fresh = set(after.get(todo.pop(), ())) - found
        found |= fresh
        todo += fresh
    return found
