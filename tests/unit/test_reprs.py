"""What a notebook shows of the nouns: names and versions, never whole documents."""

from dataclasses import replace

from featurestore import FeatureClient, FeatureStore
from featurestore.jobs.run import Outcome
from featurestore.model.documents import LiveView, Release
from featurestore.model.facts import Facts
from featurestore.model.plan import plan
from featurestore.model.time import BEGINNING, Interval, micros
from tests.repos import T0, history, landings, shop, write


def test_documents_show_their_versions_on_one_line():
    """A view, a service, a release and an outcome name themselves and what is in them."""
    view, project = history(), shop()
    assert repr(view) == f"<View {view.version} of plane: last_delay, was_late, seats>"
    service = project.services[0]
    assert repr(service) == f"<Service model@{service.id[:12]}: history>"
    release = Release(
        project="shop", number=3, views=(LiveView(view=view),), services=(service,), created=0
    )
    assert repr(release) == f"<Release 3 of shop: {view.version}>"
    outcome = Outcome(
        view="history",
        version=view.version,
        table="t.0",
        interval=Interval(start=BEGINNING, end=micros(T0)),
        rows=1_200,
        served=7,
        repaired=0,
        changed=False,
    )
    assert repr(outcome) == (
        f"<Outcome {view.version}: 1,200 rows known up to 2024-03-01 00:00:00 UTC, 7 to Redis, "
        "unchanged>"
    )


def test_a_plan_shows_what_changes_and_why():
    """One line a change, with its reasons; what stays is only counted."""
    project = shop()
    nothing = Facts(
        now=0,
        retention=0,
        head=None,
        aliases={},
        moves=(),
        releases={},
        locks=(),
        tables=(),
        versions={},
        written={},
    )
    first, *rest = repr(made := plan(nothing, {}, project, revision=None)).splitlines()
    assert first == f"<Plan {made.id}: 2 of 2 to change>"
    assert rest[0] == f"  additive view {project.views[0].version}: history: new view"
    same = plan(replace(nothing, head=project), {}, project, revision=0)
    assert repr(same) == f"<Plan {same.id}: 0 of 2 to change>"


def test_the_facades_say_where_they_are(tmp_path):
    """A store names its folder and project, a client its server."""
    repo = write(tmp_path, landings())
    with FeatureStore(repo, environ={}) as store:
        assert repr(store) == f"FeatureStore({str(repo.resolve())!r}, project='shop')"
    with FeatureClient("127.0.0.1:6571") as client:
        assert repr(client) == "FeatureClient('127.0.0.1:6571')"
