"""A release as a server holds it: swapped as a whole, never changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from featurestore.errors import CorruptData, NotFound
from featurestore.model.catalog import Catalog
from featurestore.model.documents import LiveView, Release, Service, load
from featurestore.model.identity import tampered
from featurestore.model.names import suggest
from featurestore.model.pinned import locked
from featurestore.model.query import Query, references, resolve
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.plan import Plan, compile_plan, output_projections
from featurestore.serving.message.locks import Pinned

Wanted = str | tuple[str, ...] | Pinned
"""A service's name, feature references, or a lock."""

_PLANS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A loaded release; `plan(wanted, full_feature_names)` remembers its latest answers.

    `stored` are its versions by id, live and warm.
    """

    release: Release
    stored: Mapping[str, LiveView]
    services: Mapping[str, Service]
    plan: Callable[[Wanted, bool], Plan]

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that the release's live views read; a server is ready when these are."""
        return tuple(live.table.id for live in self.release.views if live.table is not None)


def state_of(release: Release) -> State:
    """Make a release ready to answer; programs are decoded when first asked for, and kept."""
    stored = MappingProxyType(_stored(release))
    services = MappingProxyType({service.name: service for service in release.services})
    catalog = Catalog(
        current=MappingProxyType({live.view.name: live.view for live in release.views}),
        others=tuple(live.view for live in release.warm),
    )

    def query(wanted: Wanted, full: bool) -> Query:
        if isinstance(wanted, Pinned):
            return locked(wanted.lock, catalog)
        if isinstance(wanted, str):
            projections = _service(wanted, services, release.number).projections
        else:
            projections = references(wanted, catalog)
        return resolve(projections, catalog, full_feature_names=full)

    def plan(wanted: Wanted, full: bool) -> Plan:
        asked = query(wanted, full)
        try:
            return compile_plan(asked, stored, release.number)
        except ValueError as error:
            raise CorruptData(
                f"{release.project}: release {release.number} is not what was written; run "
                "`featurestore rebuild-online`"
            ) from error

    return State(
        release=release,
        stored=stored,
        services=services,
        plan=lru_cache(maxsize=_PLANS)(plan),
    )


def _stored(release: Release) -> dict[str, LiveView]:
    """Give each version's table: the live one, else the newest generation among the warm."""
    warm = sorted(release.warm, key=lambda one: one.table.generation if one.table else -1)
    return {one.view.id: one for one in (*warm, *release.views)}


def read_release(text: str | bytes, *, project: str) -> Release:
    """Read a release's document.

    Raises:
        CorruptData: the text is no release, one of another project, or an id in it is not that of
            its content.
    """
    try:
        release = load(text, Release)
    except (ValueError, ExceptionGroup, RecursionError) as error:
        raise CorruptData(
            f"{project}: the release in Redis cannot be read by this build; run "
            "`featurestore rebuild-online` with the version that serves"
        ) from error
    if release.project != project:
        raise CorruptData(f"{project}: the release in Redis belongs to {release.project}")
    path = tampered(release)
    if path is not None:
        raise CorruptData(
            f"{project}: release {release.number} in Redis: {path} no longer matches its content; "
            "run `featurestore rebuild-online` to publish it again"
        )
    return release


def describe(state: State, wanted: str | Pinned, *, full: bool) -> pb.DescribeServiceResponse:
    """Say what a service or a lock asks for and answers.

    Raises:
        NotFound: the release has no such service.
        NotMaterialized, Unsupported: it cannot be answered by this release or build.
    """
    plan = state.plan(wanted, full)
    query = plan.query
    if isinstance(wanted, Pinned):
        name, digest = wanted.lock.service or "", wanted.id
    else:
        name, digest = wanted, state.services[wanted].id
    return pb.DescribeServiceResponse(
        feature_service=name,
        service_id=digest,
        release=state.release.number,
        entities=[pb.Field(name=c.name, dtype=c.dtype) for c in query.entities],
        request_data=[pb.Field(name=c.name, dtype=c.dtype) for c in query.request],
        outputs=[
            pb.Output(
                name=output.name,
                dtype=output.feature.dtype,
                projection=projection,
                feature=output.feature.name,
                feature_id=output.feature.id,
            )
            for output, projection in zip(query.outputs, output_projections(query), strict=True)
        ],
        projections=plan.projections,
        stored=[
            pb.Stored(
                projection=number,
                table=read.table,
                ttl=read.lookup.view.ttl,
                watermark=state.stored[read.lookup.view.id].watermark,
            )
            for number, read in enumerate(plan.reads)
        ],
    )


def _service(name: str, services: Mapping[str, Service], release: int) -> Service:
    if name not in services:
        raise NotFound(
            f"feature_service: release {release} has no service {name!r}{suggest(name, services)}"
        )
    return services[name]
