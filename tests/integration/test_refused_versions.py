"""Versions, releases and locks that are not what they say are named and refused; nothing moves."""

from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest
import sqlalchemy as sa

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    SourceError,
)
from featurestore.jobs import plan as planning
from featurestore.jobs.backfill import backfill
from featurestore.jobs.collect import collect
from featurestore.jobs.locks import register, retire
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.plan import towards
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.verify import verify
from featurestore.model.time import micros
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.locks import LOCK_BYTES
from featurestore.storage import sql
from tests.repos import (
    DAY,
    NOW,
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    pace,
    released,
    served,
    shop,
    write,
)
from tests.servers import wait_until

ROWS = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 20.0, 4))
ONE = history()
TWO = history(features={"last_delay": pl.col("delay") * 2})
SPINE = pl.DataFrame({"plane": ["a", "b"], "event_timestamp": [at(20)] * 2, "miles": [2.0] * 2})
ASKED = ["history:last_delay", "history:seats", "pace:per_mile"]
ENTITIES = {"plane": ["a", "b"], "miles": [2.0, 2.0]}
JOBS = {
    "plan": lambda workspace: towards(workspace, shop(ONE, name=workspace.config.project)),
    "backfill": backfill,
    "verify": verify,
    "promote": promote,
    "rollback": rollback,
    "materialize": lambda workspace: materialize_incremental(workspace, micros(at(48))),
    "collect": collect,
    "rebuild-online": rebuild_online,
}


@pytest.fixture
def live(tmp_path, valkey):
    """A repo whose first version is live, in its second release."""
    repo = write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))
    made = applied(repo, valkey.url, history(ttl=DAY))
    materialize(made, micros(at(0)), micros(at(24)))
    released(made)
    made.close()
    made = applied(repo, valkey.url, ONE, pace(ONE))
    backfill(made)
    released(made)
    yield made
    made.close()


def trained(workspace, **options):
    """Give a training set of two rows, joined."""
    with notebook(workspace) as store:
        made = store.get_historical_features(SPINE, **options)
        assert len(made.features) == 2
        return made


def prepared(workspace, view):
    """Apply, compute and verify a view with what is computed from it."""
    made = applied(workspace.config.root, workspace.redis_url(), view, pace(view))
    backfill(made)
    assert verify(made).differences.is_empty()
    return made


TAMPERED = {
    sql.HEADS: ('"ttl":604800000000', '"ttl":604800000001', rf"{TWO.version}\.id"),
    sql.DOCUMENTS: ('"ttl":86400000000', '"ttl":1', r"history@\w+\.id"),
    sql.RELEASES: ('"name":"seats"', '"name":"chairs"', r"history@\w+\.features\.chairs\.id"),
    sql.LOCKS: ('"rows":2', '"rows":3', r"registry: lock \w+ no longer matches"),
}


@contextmanager
def tampered(workspace, table, said, says):
    """Change all documents of a table for the length of a block."""

    def rewrite(bodies):
        with workspace.registry._engine.begin() as connection:
            for body, *key in bodies:
                row = (column == one for column, one in zip(table.primary_key, key, strict=True))
                connection.execute(sa.update(table).where(*row).values(body=body))

    with workspace.registry._engine.connect() as connection:
        bodies = connection.execute(sa.select(table.c.body, *table.primary_key)).all()
    rewrite((body.replace(said, says), *key) for body, *key in bodies)
    yield
    rewrite(bodies)


def test_a_document_that_was_changed_stops_every_job_that_reads_it(live):
    """The job says which, changes nothing in Redis or of an alias, and goes on once it is right."""
    register(live, trained(live, features=ASKED).lock, owner="ann")
    prepared(live, TWO).close()
    before, aliases = dump(live), live.releases.aliases()
    for table, (said, says, told) in TAMPERED.items():
        with tampered(live, table, said, says):
            for name, job in JOBS.items():
                if (table, name) != (sql.HEADS, "rebuild-online"):
                    with pytest.raises(CorruptData, match=told):
                        job(live)
                assert (dump(live), live.releases.aliases()) == (before, aliases), name
    assert promote(live).release.number == max(aliases.values()) + 1


def test_what_an_alias_never_named_is_not_rolled_back_to(live):
    """Unknown aliases and releases, and those of another alias, are told with what there is."""
    prepared(live, TWO).close()
    verify(live, "staging")
    promote(live, "staging")
    for job in (rollback, lambda workspace, alias: verify(workspace, alias, live=True)):
        with pytest.raises(NotFound, match="prd: no alias has this name; did you mean 'prod'"):
            job(live, "prd")
    for number in (3, 9, 0, -1):
        with pytest.raises(NotFound, match=rf"rollback: prod never named release {number}.*log"):
            rollback(live, to=number)
    with pytest.raises(InvalidRequest, match="rollback: staging named nothing before"):
        rollback(live, "staging")
    assert live.releases.aliases() == {"prod": 2, "staging": 3}


def test_a_lock_that_contradicts_the_registry_is_not_registered(live):
    """Drafts, versions that were never here, and features of one name with another's id."""
    lock = trained(live, features=ASKED).lock
    one, two, three = lock.outputs
    unknown = replace(lock.views[0], id="0" * 64)
    swapped = (
        replace(one, feature_id=two.feature_id),
        replace(two, feature_id=one.feature_id),
        three,
    )
    for wrong, error, told in (
        (replace(lock, draft=True), InvalidRequest, "never registered"),
        (replace(lock, project="other"), InvalidRequest, r"lock\.project: is 'other'"),
        (replace(lock, outputs=swapped), InvalidRequest, r"lock\.outputs\[0\]\.feature_id"),
        (
            replace(lock, views=(unknown, *lock.views[1:])),
            NotFound,
            r"lock\.views\[0\]: history@000000000000 was never registered here",
        ),
    ):
        with pytest.raises(error, match=told):
            register(live, wrong, owner="ann")
    assert live.releases.locks() == ()


def test_a_lock_with_another_ttl_than_its_versions_is_refused(live):
    """Its id fits, but the ttl is part of the version that it names; only it registers."""
    lock = trained(live, features=ASKED).lock
    views = tuple(replace(one, ttl=1) if one.kind == "batch" else one for one in lock.views)
    edited = replace(lock, views=views)
    with pytest.raises(InvalidRequest, match=r"lock\.views\[0\]\.ttl: is not that of history@"):
        register(live, edited, owner="ann")
    assert live.releases.locks() == ()
    register(live, lock, owner="ann")
    assert [one.id for one in live.releases.locks()] == [lock.id]


def test_the_command_that_a_refused_lock_names_brings_it_back(live):
    """Nobody registered it, so its table was collected; over the socket the way out is named."""
    first = trained(live, features=ASKED)
    prepared(live, TWO).close()
    promote(live)
    live.clock = lambda: micros(NOW + 8 * DAY)
    assert ONE.version in {one.view.version for one in collect(live).tables}
    with served(live, now=at(20)) as client:
        with FeatureClient(client.address, lock=first.lock, timeout=10) as locked:
            with pytest.raises(NotMaterialized, match="`featurestore lock register") as caught:
                locked.get_online_features(entities=ENTITIES)
            assert ONE.version in str(caught.value)
            kept = register(live, first.lock, owner="ann")
            wait_until(lambda: client.get_online_features("model", entities=ENTITIES).release == 5)
            found = locked.get_online_features(entities=ENTITIES)
        assert found.to_polars().select(first.features.columns).equals(first.features)
        assert found.versions["history"] == ONE.id
    assert (kept.warmed, kept.collected) == ((ONE.version,), (ONE.version,))


def changed(lock, field, **fields):
    """Give a lock with fields of the first of its views, lookups or outputs changed."""
    first, *rest = getattr(lock, field)
    return replace(lock, **{field: (replace(first, **fields), *rest)})


WRONG = {
    "data of no form": (("views", {"data": "yesterday"}), r"lock\.views\[0\]\.data: 'yesterday'"),
    "data of another view": (
        ("views", {"data": f"{'0' * 16}.0/1"}),
        r"lock\.views\[0\]\.data: '0{16}\.0/1' names no data of history",
    ),
    "a ttl of nothing": (("views", {"ttl": 0}), r"lock\.views\[0\]\.ttl"),
    "a ttl before nothing": (("views", {"ttl": -1}), r"lock\.views\[0\]\.ttl"),
    "a name twice": (("outputs", {"name": "seats"}), r"lock\.outputs\[1\]\.name: 'seats'"),
    "another dtype": (("outputs", {"dtype": "int8"}), r"lock\.outputs\[0\]\.feature_id"),
    "another view's name": (("outputs", {"view": "pace"}), r"lock\.outputs\[0\]\.view"),
    "a feature of nothing": (
        ("lookups", {"features": ("0" * 64,)}),
        r"lock\.lookups\[0\]\.features: are not all of its version",
    ),
    "an input of nothing": (("lookups", {"features": ()}), r"lock\.lookups: none gives pace@"),
    "too much to send": (
        ("lookups", {"alias": "a" * LOCK_BYTES}),
        f"no server takes more than {LOCK_BYTES:,}",
    ),
}


def test_a_lock_that_no_server_could_answer_is_not_registered(live):
    """It is resolved before anything is written, as a server would; the message says where."""
    lock = trained(live, features=ASKED).lock
    for (field, fields), told in WRONG.values():
        with pytest.raises(InvalidRequest, match=told):
            register(live, changed(lock, field, **fields), owner="ann")
    with pytest.raises(InvalidRequest, match=r"lock\.outputs: is empty"):
        register(live, replace(lock, outputs=()), owner="ann")
    assert live.releases.locks() == ()


def test_an_owner_is_a_name_that_can_be_read(live):
    """Any alphabet, no line breaks or half characters, and short enough to be listed."""
    lock = trained(live, features=ASKED).lock
    for owner in ("", " ", "a\nb", "a\x00", "\udcff", "\x1b[1m", "é" * 101):
        with pytest.raises(InvalidRequest, match=r"lock\.owner: .* 200 printable bytes"):
            register(live, lock, owner=owner)
    assert live.releases.locks() == ()
    assert register(live, lock, owner="Zoë & 李").registered.owner == "Zoë & 李"


def test_an_alias_has_a_name_that_can_be_typed_and_is_no_number(live):
    """Every job that takes one refuses the same, before it does anything."""
    for alias in ("", "7", "a b", "prod/eu", "prod\n", "é", "*", "a" * 65, "\udcff"):
        for name in ("plan", "backfill", "verify", "promote"):
            job = planning.plan if name == "plan" else JOBS[name]
            with pytest.raises(InvalidRequest, match=r"alias name .*: use 1 to 64 letters"):
                job(live, alias)
    verify(live, "prod.eu-1_b")
    assert promote(live, "prod.eu-1_b").release.number == 3


def test_a_registered_lock_that_cannot_be_answered_yet_says_so(live):
    """It keeps its data from now on; once what was missing is back, the same command completes."""
    first = trained(live, features=ASKED)
    prepared(live, TWO).close()
    promote(live)
    live.clock = lambda: micros(NOW + 8 * DAY)
    collect(live)
    source = live.config.root / "data/landings.parquet"
    moved = source.rename(source.with_suffix(".away"))
    told = f"lock {first.lock.id[:12]}: is registered, but not answered yet by prod: .*landings"
    with pytest.raises(SourceError, match=f"{told}.*; register it again$"):
        register(live, first.lock, owner="ann")
    assert [one.owner for one in live.releases.locks()] == ["ann"]
    moved.rename(source)
    assert register(live, first.lock, owner="ann").warmed == (ONE.version,)


def test_a_lock_is_retired_once_and_by_enough_of_its_id(live):
    """A second time it says when; a digit or two name nothing."""
    lock = register(live, trained(live, features=ASKED).lock, owner="ann").registered
    for short in ("", lock.id[:3]):
        with pytest.raises(InvalidRequest, match="give at least 4 digits of its id"):
            retire(live, short)
    retire(live, lock.id)
    with pytest.raises(InvalidRequest, match=rf"was retired {NOW:%Y-%m-%d %H:%M}.* already"):
        retire(live, lock.id[:6])
    with pytest.raises(NotFound, match="lock beef: no such lock is registered"):
        retire(live, "beef")


def test_a_plan_for_one_alias_promotes_no_other(live):
    """What was read was about another release and other gaps."""
    made = applied(live.config.root, live.redis_url(), ONE, pace(ONE))
    other = towards(made, shop(ONE, pace(ONE), name=made.config.project), "staging").plan
    with pytest.raises(Conflict, match=f"{other.id} is a plan for the alias staging, not for prod"):
        promote(made, plan_id=other.id)
    verify(made, "staging")
    assert promote(made, "staging", plan_id=other.id).release.number == 3
    made.close()
