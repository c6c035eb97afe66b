"""Verify sees what only it can see: each law has a planted fault that the others do not find."""

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from featurestore.errors import Conflict, NotMaterialized
from featurestore.jobs import verify as verifying
from featurestore.jobs.backfill import backfill
from featurestore.jobs.facts import facts
from featurestore.jobs.locks import register
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.plan import towards
from featurestore.jobs.promote import promote
from featurestore.jobs.proof.served import SERVED
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.verify import verify
from featurestore.model.declare import on_demand_view, project, service
from featurestore.model.documents import Expression, Projection, Spelling, dump
from featurestore.model.schema import Column
from featurestore.model.steps import Promote, Verify
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys, redis_keys
from featurestore.storage.packed import latest, pack
from tests.repos import (
    DAY,
    NOW,
    applied,
    at,
    history,
    landings,
    notebook,
    offline_rows,
    opened,
    pace,
    released,
    served,
    shop,
    write,
)
from tests.servers import client_of

ROWS = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 20.0, 4), ("a", 5, None, 30.0, 3))
ONE = history()
MORE = history(features={"last_delay": pl.col("delay"), "half": pl.col("delay") / 2})
TWO = history(features={"last_delay": pl.col("delay") * 2})
ALL = {"last_delay": pl.col("delay"), "was_late": pl.col("delay") > 15, "seats": pl.col("seats")}
MODEL = (ONE, pace(ONE))
LASTING = history(ttl=None)


@pytest.fixture
def repo(tmp_path):
    """A repo of three rows."""
    return write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))


@pytest.fixture
def live(repo, valkey):
    """The repo with its view, and what is computed from it, live."""
    made = applied(repo, valkey.url, *MODEL)
    backfill(made)
    released(made)
    yield made
    made.close()


def key_of(workspace, view, plane):
    """Give the key of a plane's row in Redis."""
    canonical = canonical_keys(pl.DataFrame({"plane": [plane]}), view.join_keys)
    table = workspace.table(view).id
    return redis_keys(workspace.config.project, table, canonical)[0]


def newest(workspace, view, **changes):
    """Give plane a's newest row as Redis stores it, after changes."""
    rows = offline_rows(workspace, view)
    row = latest(view, rows).filter(pl.col("plane") == "a").with_columns(**changes)
    return pack(view, row)[0]


def found(workspace, **options):
    """Give what a verification found as (law, version, feature)."""
    told = verify(workspace, **options).differences
    return set(told.select("check", "version", "feature").rows())


def steps_to(workspace, *views):
    """Give the steps that a plan shows from what is applied to what prod names."""
    return towards(workspace, shop(*views, name=workspace.config.project)).plan.steps


REFUSED = r"promote: (not verified are|verification failed of) "


def unproven(workspace, *views):
    """Say which versions a plan wants verified, having checked that promote refuses just these."""
    steps = [step for step in steps_to(workspace, *views) if isinstance(step, Verify)]
    ids = steps[0].versions if steps else ()
    versions = {view.id: view.version for view in views}
    if not ids:
        return set()
    with pytest.raises(NotMaterialized, match=REFUSED) as caught:
        promote(workspace)
    named = {versions[one] for one in ids}
    assert {version for version in versions.values() if version in str(caught.value)} == named
    return named


def test_a_value_that_is_wrong_in_redis_is_named_and_keeps_the_version_from_going_live(live):
    """A live version that failed its newest verification is refused until one passes."""
    key, right = key_of(live, ONE, "a"), newest(live, ONE)
    assert client_of(live.redis_url()).get(key) == right
    client_of(live.redis_url()).set(key, newest(live, ONE, last_delay=pl.lit(31.0)))
    wrong = found(live)
    assert ("offline = Redis", ONE.version, "last_delay") in wrong
    assert unproven(live, *MODEL) >= {ONE.version}
    client_of(live.redis_url()).set(key, right)
    assert found(live) == set()
    assert unproven(live, *MODEL) == set()
    assert not promote(live).fresh


@pytest.mark.parametrize("damage", [b"\x00", None, "a foreign row"])
def test_a_row_that_cannot_be_read_is_a_difference_and_no_accident(repo, valkey, damage):
    """It is told with what was read, counts against its version, and everything else is checked."""
    live = applied(repo, valkey.url, LASTING, pace(LASTING))
    backfill(live)
    released(live)
    key = key_of(live, LASTING, "a")
    row = client_of(live.redis_url()).get(key)
    client_of(live.redis_url()).delete(key)
    if damage is not None:
        client_of(live.redis_url()).set(key, damage if isinstance(damage, bytes) else row + b"\x01")
    told = verify(live)
    wrong = told.differences.filter(pl.col("check") == "offline = Redis")
    assert wrong["entity"].to_list() == ["plane='a'"]
    assert wrong["feature"].to_list() == ["(the row)"]
    computed = (pace(LASTING).version,) if damage is not None else ()
    assert told.versions == computed
    assert LASTING.version in unproven(live, LASTING, pace(LASTING))


def test_a_file_that_rotted_after_it_was_read_is_found(live):
    """What this process found to be whole before is not believed again."""
    assert found(live) == set()
    folder = Path(live.offline.path(ONE, live.table(ONE)))
    (file, *_) = folder.glob("**/*.parquet")
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(bytes(body))
    told = verify(live).differences
    assert {"offline = Redis", "training = serving"} == set(told["check"])
    assert all("CorruptData" in one and "sha256" in one for one in told["found"])
    assert unproven(live, *MODEL) == {ONE.version}


def test_what_is_computed_on_request_is_not_promoted_unverified(repo, valkey):
    """No stored row vouches for it: it goes live once a verification of itself passed."""
    made = applied(repo, valkey.url, ONE)
    backfill(made)
    released(made)
    made = applied(repo, valkey.url, *MODEL)
    assert unproven(made, *MODEL) == {pace(ONE).version}
    assert verify(made).versions == (ONE.version, pace(ONE).version)
    assert [type(step) for step in steps_to(made, *MODEL)] == [Promote]
    assert promote(made).release.number == 2


def misspelled(view, wrong):
    """Give an on-demand view whose bytes for the running Polars say something else.

    Its first spelling, which alone gives the identity, is that of another dialect.
    """
    (feature,), (other,) = view.features, wrong.features
    (right,), (said,) = feature.expression.spellings, other.expression.spellings
    first = Spelling(dialect="polars-0.1", data=right.data)

    def spelled(spelling):
        expression = Expression(spellings=(first, spelling))
        return replace(view, features=(replace(feature, expression=expression),))

    return spelled(right), spelled(said)


def test_a_wrong_spelling_of_an_on_demand_feature_counts_against_it_alone(repo, valkey):
    """Only the real server's vectors tell: the ids fit, and the stored rows are right."""
    wrong = on_demand_view(
        name="pace",
        sources=[(ONE, Projection(view="history", alias="history"))],
        request=[Column(name="miles", dtype="float64")],
        features={"per_mile": pl.col("last_delay") / pl.col("miles") + 1},
    )
    right, planted = misspelled(pace(ONE), wrong)
    made = applied(repo, valkey.url, ONE, right)
    backfill(made)
    release = released(made)
    views = tuple(replace(v, view=planted) if v.table is None else v for v in release.views)
    (key,) = client_of(made.redis_url()).scan_iter(match=f"*{made.config.project}*release*1")
    text = client_of(made.redis_url()).get(key)
    client_of(made.redis_url()).set(key, dump(replace(release, views=views)).encode())
    with served(made) as client:
        assert found(made, live=True, client=client) == {
            ("SQL = Redis", "release 1", "(the row)"),
            ("training = serving", right.version, "pace__per_mile"),
        }
    assert unproven(made, ONE, right) == {right.version}
    client_of(made.redis_url()).set(key, text)
    with served(made) as client:
        assert found(made, live=True, client=client) == set()
    assert unproven(made, ONE, right) == set()


def test_a_feature_that_made_up_values_do_not_fit_is_verified_with_those_that_do(repo, valkey):
    """A strict cast refuses the greatest; what it takes is compared, and the view can go live."""
    strict = on_demand_view(
        name="strict",
        sources=[(ONE, Projection(view="history", alias="history"))],
        request=[Column(name="text", dtype="string")],
        features={"tiny": (pl.col("text").cast(pl.Float64) * 2).cast(pl.Int8)},
    )
    made = applied(repo, valkey.url, ONE, strict)
    backfill(made)
    assert found(made) == set()
    assert promote(made).release.number == 1


def test_a_feature_that_no_stored_value_fits_is_a_difference(repo, valkey):
    """It cannot be computed of the rows there are, in training or in serving: its own fault."""
    broken = on_demand_view(
        name="broken",
        sources=[(ONE, Projection(view="history", alias="history"))],
        request=[Column(name="miles", dtype="float64")],
        features={"tiny": (pl.col("last_delay") * 1e9).cast(pl.Int8)},
    )
    made = applied(repo, valkey.url, ONE, broken)
    backfill(made)
    told = verify(made)
    assert set(told.differences["version"]) == {broken.version}
    assert "broken.features.tiny" in told.differences["found"][0]
    assert told.versions == (ONE.version,)
    assert unproven(made, ONE, broken) == {broken.version}


def test_lost_and_found_rows_of_a_feature_that_kept_its_id_are_differences(repo, valkey):
    """Whichever table has a row that the other lacks, its entity is named."""
    made = applied(repo, valkey.url, ONE)
    backfill(made)
    released(made)
    c = landings(("c", 3, None, 1.0, 1))
    write(repo, pl.concat([ROWS.filter(pl.col("plane") == "a"), c]), name=made.config.project)
    made = applied(repo, valkey.url, MORE)
    backfill(made)
    told = verify(made).differences
    named = told.select("check", "feature", "expected", "found", pl.col("entity").str.slice(0, 9))
    assert set(named.rows()) == {
        ("old = new", "(the row)", "a row", "missing", "plane='b'"),
        ("old = new", "(the row)", "missing", "a row", "plane='c'"),
    }
    assert unproven(made, MORE) == {MORE.version}


def test_values_that_are_past_their_ttl_now_are_compared_where_they_counted(live):
    """At the watermark everything is null; every plane's newest row still counts at its moment."""
    checks = {check.law: check for check in verify(live).checks}
    asked = checks["training = serving"]
    assert (asked.skipped, asked.differences.height) == (None, 0)
    rows, stored, computed = 2, 3, 1
    assert asked.present > rows * stored
    assert asked.compared >= 2 * rows * (stored + computed)


def test_a_wrong_moment_of_a_row_is_seen_by_training_only(live):
    """Nothing but null at the watermark: that an old value is served shows at its own moment."""
    rows = offline_rows(live, ONE)
    stale = rows.filter(pl.col("plane") == "a").sort("event_timestamp").head(1)
    client_of(live.redis_url()).set(key_of(live, ONE, "a"), pack(ONE, stale)[0])
    wrong = found(live)
    assert ("training = serving", ONE.version, "history__last_delay") in wrong
    assert ("training = serving", pace(ONE).version, "pace__per_mile") in wrong


def test_where_nothing_is_but_null_a_check_says_that_it_proves_nothing(repo, valkey):
    """No row, no value: what was compared is skipped with a reason."""
    empty = history(filter=pl.col("delay") > 1e9)
    made = applied(repo, valkey.url, empty)
    backfill(made)
    (check,) = (one for one in verify(made).checks if one.law == "training = serving")
    assert (check.present, check.skipped) == (0, "all of these values are null: nothing is proven")


def test_an_empty_view_beside_another_does_not_keep_its_entities_from_being_asked(repo, valkey):
    """Its keys are null in their rows, and the other view's values are compared."""
    empty = history(
        name="empty",
        join_keys={"seats": "uint8"},
        features={"least": pl.col("delay")},
        filter=pl.col("delay") > 1e9,
    )
    made = applied(repo, valkey.url, ONE, empty)
    backfill(made)
    (check,) = (one for one in verify(made).checks if one.law == "training = serving")
    assert check.present >= 2 * len(ONE.features)


def test_an_alias_or_release_that_redis_has_otherwise_than_sql_is_told_with_the_way_out(live):
    """Servers answer by the copy; `rebuild-online` makes it again."""
    (key,) = client_of(live.redis_url()).scan_iter(match=f"*{live.config.project}*alias*prod")
    client_of(live.redis_url()).delete(key)
    told = verify(live, live=True).differences
    assert told["check"].to_list() == ["SQL = Redis"]
    assert "`featurestore rebuild-online`" in told["found"][0]
    rebuild_online(live)
    assert found(live, live=True) == set()


def test_a_table_that_only_a_lock_is_answered_from_is_verified_again_after_a_correction(
    live, repo, valkey
):
    """A correction takes it out of what is proven; to verify what is live puts it back."""
    spine = pl.DataFrame({"plane": ["a"], "event_timestamp": [at(20)]})
    with notebook(live) as store:
        lock = store.get_historical_features(spine, ["history:last_delay"]).lock
    register(live, lock, owner="ann")
    made = applied(repo, valkey.url, TWO)
    backfill(made)
    released(made)
    late = opened(repo, valkey.url, now=NOW + 30 * DAY)
    pair = (ONE.id, late.table(ONE).id)
    assert pair in facts(late).passed
    write(repo, ROWS.with_columns(pl.col("delay") + 1), name=late.config.project)
    materialize(late, micros(at(0)), micros(at(24)))
    assert not facts(late).holds(ONE, late.table(ONE))
    assert found(late, live=True) == set()
    assert facts(late).holds(ONE, late.table(ONE))
    client_of(late.redis_url()).set(
        key_of(late, ONE, "a"), newest(late, ONE, seats=pl.lit(9, pl.UInt8))
    )
    assert ("offline = Redis", ONE.version, "seats") in found(late, live=True)
    assert not facts(late).holds(ONE, late.table(ONE))


@contextmanager
def busy(workspace, repo):
    """Correct and add rows again and again, as long as a block runs."""
    stop, done, failed = threading.Event(), [], []

    def run():
        other = opened(repo, workspace.redis_url())
        try:
            while not stop.wait(0.5):
                rows = ROWS.with_columns(pl.col("delay") + len(done))
                more = landings(("a", 6 + len(done), None, 1.0 * len(done), 3))
                write(repo, pl.concat([rows, more]), name=other.config.project)
                materialize(other, micros(at(0)), micros(NOW))
                done.append(len(done))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            other.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    assert failed == []


def test_a_verification_beside_runs_raises_no_false_alarm(live, repo):
    """Rows come, move and go while they are compared; only what stays different would be told."""
    with busy(live, repo) as done:
        while len(done) < 4:
            with suppress(Conflict):  # on a slow machine runs may never pause for long enough
                told = verify(live, live=True)
                assert told.differences.is_empty(), told.differences
    assert found(live, live=True, everything=True) == set()
    materialize_incremental(live, micros(NOW))


def test_a_correction_that_lands_after_the_comparison_is_not_verified_by_it(
    repo, valkey, monkeypatch
):
    """What is put on record is the state that was read, not the one that stands at the end."""
    made = applied(repo, valkey.url, *MODEL)
    backfill(made)
    record = verifying._recorded

    def late(*found, **asked):
        write(repo, ROWS.with_columns(pl.col("delay") + 1), name=made.config.project)
        materialize(made, micros(at(0)), micros(at(24)))
        return record(*found, **asked)

    monkeypatch.setattr(verifying, "_recorded", late)
    assert verify(made).differences.is_empty()
    monkeypatch.undo()
    assert unproven(made, *MODEL) == {ONE.version}
    assert found(made) == set()
    assert promote(made).release.number == 1


SOLO = on_demand_view(
    name="solo",
    sources=(),
    features={"twice": pl.col("miles") * 2},
    request=(Column(name="miles", dtype="float64"),),
)


def test_what_is_computed_of_request_data_alone_is_verified_and_promoted(repo, valkey):
    """No table stands behind it: by itself, and beside a stored view that no service reads."""
    for views in ((SOLO,), (ONE, SOLO)):
        made = applied(repo, valkey.url, *views)
        backfill(made)
        assert {SOLO.version} <= set(verify(made).versions)
        assert SOLO in {one.view for one in promote(made).release.views}
        made.close()


def test_features_that_no_service_reads_are_verified_too(repo, valkey):
    """What only a bare reference gives is computed, and compared, as well."""
    made = applied(repo, valkey.url, ONE)
    asked = Projection(view="history", alias="history", features=("last_delay",))
    model = service(name="model", projections=[asked], views={"history": ONE})
    made.registry.apply(
        project(name=made.config.project, views=[ONE], services=[model]),
        expected=made.registry.head().revision,
        now=made.clock(),
        who="test",
    )
    backfill(made)
    told = {one.subject: one.compared for one in verify(made).checks if one.law == SERVED}
    assert set(told) == {"model", ONE.version}
    assert told[ONE.version] == told["model"] * (len(ONE.features) - 1)


def test_a_first_piece_proves_nothing_for_the_whole(repo, valkey):
    """What has gaps is compared, and is no candidate: it takes another verification when it is."""
    made = applied(repo, valkey.url, ONE)
    materialize(made, micros(at(0)), micros(at(24)))
    released(made)
    other = applied(repo, valkey.url, MORE)
    materialize(other, micros(at(3)), micros(at(24)))
    told = verify(other)
    assert told.differences.is_empty()
    assert ("complete", MORE.version) in {(one.law, one.subject) for one in told.checks}
    assert told.versions == ()
    backfill(other)
    with pytest.raises(NotMaterialized, match=rf"not verified are {MORE.version}"):
        promote(other)
    released(other)


def test_what_an_alias_was_not_verified_for_is_not_promoted_there(live):
    """To pass for a mistyped alias, where nothing is live to compare with, proves nothing here."""
    made = applied(live.config.root, live.redis_url(), TWO)
    backfill(made)
    assert verify(made, "prdo").differences.is_empty()
    with pytest.raises(NotMaterialized, match=rf"not verified are {TWO.version}"):
        promote(made)
    released(made)


def test_old_rows_that_the_source_let_go_of_do_not_hold_an_additive_version_back(repo, valkey):
    """What nobody can compute again is not compared; a row that is missing between others is."""
    made = applied(repo, valkey.url, ONE)
    backfill(made)
    released(made)
    write(repo, ROWS.filter(pl.col("at") > at(1)), name=made.config.project)
    other = applied(repo, valkey.url, history(features=ALL | {"half": pl.col("delay") / 2}))
    backfill(other)
    assert verify(other).differences.is_empty()
    write(repo, ROWS.filter(pl.col("at") != at(2)), name=made.config.project)
    backfill(other, views=["history"], again=True)
    assert found(other) == {("old = new", other.project().views[0].version, "(the row)")}
