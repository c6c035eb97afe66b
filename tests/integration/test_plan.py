"""Plans over real stores: costs, samples, applying, and a Polars upgrade."""

import subprocess
from dataclasses import replace
from functools import partial

import polars as pl
import pytest

from featurestore.errors import Conflict
from featurestore.jobs.apply import register
from featurestore.jobs.backfill import backfill
from featurestore.jobs.dialect import reconciled
from featurestore.jobs.facts import facts
from featurestore.jobs.materialize import materialize
from featurestore.jobs.plan import samples, towards
from featurestore.jobs.sample import sample
from featurestore.model.documents import Expression, Spelling
from featurestore.model.expressions import DIALECT
from featurestore.model.identity import identified
from featurestore.model.steps import Backfill, Promote, Register, Respell, Verify
from featurestore.model.time import BEGINNING, Interval, micros
from tests.repos import at, history, landings, opened, pace, released, shop, write

DELAY = pl.col("delay")
ROWS = landings(
    *(("ab"[n % 2], n / 10, None, float(n), n % 5 or None) for n in range(40)),
)
FEATURES = {"last_delay": DELAY, "was_late": DELAY > 15, "seats": pl.col("seats")}
OLD = "polars-2.0"


def edited(**features):
    """Describe the repo's view with other features."""
    return history(features=FEATURES | features)


@pytest.fixture
def bare(tmp_path, valkey):
    """A repo of forty rows that was never applied."""
    repo = write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))
    made = opened(repo, valkey.url)
    yield made
    made.close()


@pytest.fixture
def workspace(bare):
    """The repo once it is applied."""
    apply(bare, history(), pace(history()))
    return bare


@pytest.fixture
def live(workspace):
    """The repo once it is materialized and live."""
    materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    return workspace


def apply(workspace, *views):
    """Apply views just as they are."""
    head = workspace.registry.head()
    workspace.registry.apply(
        shop(*views, name=workspace.config.project),
        expected=head.revision if head else None,
        now=workspace.clock(),
        who="before",
    )


def planned(workspace, *views, **options):
    """Plan the way to a project of these views."""
    return towards(workspace, shop(*views, name=workspace.config.project), **options)


def test_a_plan_is_carried_out_step_by_step(live):
    """What it says is what the jobs then do, until nothing is left."""
    view = edited(last_delay=DELAY + 1)
    views = (view, pace(view))
    found = planned(live, *views)
    assert [type(step) for step in found.plan.steps] == [
        *[Register] * 2,
        Backfill,
        Verify,
        Promote,
    ]
    assert register(live, found).id == planned(live, *views).plan.id
    backfill(live)
    assert [type(step) for step in planned(live, *views).plan.steps] == [Verify, Promote]
    released(live)
    done = planned(live, *views).plan
    assert (done.changed, done.steps) == ((), ())


def test_a_backfill_costs_what_the_live_table_holds(live):
    """Rows and Redis memory are those of the current table, by a row's width."""
    view = edited(last_delay=DELAY + 1)
    (step,) = [s for s in planned(live, view, pace(view)).plan.steps if isinstance(s, Backfill)]
    assert step.intervals == (Interval(start=BEGINNING, end=micros(at(24))),)
    assert step.cost.rows == 40
    assert 500 < step.cost.bytes < 20_000
    keys = [b"\x01s\x01\x00\x00\x00" + plane for plane in (b"a", b"b")]
    held = live.online().memory(live.table(history()).id, keys)
    assert len(held) == 2
    assert step.cost.redis == sum(held)
    wide = edited(more=DELAY * 2, and_more=DELAY * 3)
    (wider,) = [s for s in planned(live, wide).plan.steps if isinstance(s, Backfill)]
    assert step.cost.redis + 2 * 16 <= wider.cost.redis <= step.cost.redis + 2 * 17
    assert wider.cost.bytes > step.cost.bytes


def test_without_redis_a_cost_is_estimated_by_what_was_measured(live):
    """A plan needs no online store; a server that is down is not waited for."""
    view = edited(last_delay=DELAY + 1)
    down = opened(live.config.root, "redis://127.0.0.1:1/0")
    (step,) = [s for s in planned(down, view, pace(view)).plan.steps if isinstance(s, Backfill)]
    down.close()
    assert 2 * 97 < step.cost.redis < 2 * 200


def test_a_view_that_was_never_written_costs_nobody_knows_what(workspace):
    """Nothing is guessed where there is no table."""
    found = planned(workspace, history(), pace(history())).plan
    (step,) = [one for one in found.steps if isinstance(one, Backfill)]
    assert (step.cost.rows, step.cost.bytes, step.cost.redis) == (None, None, None)


def test_a_sample_tells_how_values_move(live):
    """Old and new are computed on the same rows; what kept its id is left out."""
    view = edited(was_late=DELAY > 30, more=DELAY / 0)
    (found,) = samples(live, planned(live, view))
    assert (found.before, found.after) == (history().version, view.version)
    assert found.found.rows == 40
    by_name = {one.feature: one for one in found.found.features}
    assert set(by_name) == {"was_late", "more"}
    assert by_name["was_late"].changed == 15
    assert by_name["was_late"].examples[0].before is True
    assert by_name["more"].before is None


def test_a_sample_takes_the_newest_rows_and_counts_what_a_filter_takes(live):
    """About as many rows as asked for; rows of one version only are counted."""
    found = sample(live, history(), history(filter=DELAY > 35), rows=10)
    assert (found.found.rows, found.found.gone, found.found.came) == (4, 6, 0)
    assert found.interval == Interval(start=micros(at(3.0)) - 1, end=micros(at(3.9)))


def test_what_cannot_be_sampled_says_why(workspace):
    """On-demand views, new views, and views without rows or with another source."""
    view = history()
    assert "request time" in sample(workspace, pace(view), pace(view)).why_not
    assert "it is new" in sample(workspace, None, view).why_not
    assert "never materialized" in sample(workspace, view, edited(more=DELAY)).why_not
    materialize(workspace, micros(at(0)), micros(at(24)))
    ROWS.with_columns(pl.col("delay").cast(pl.Float32)).write_parquet(
        workspace.config.root / "data" / "landings.parquet"
    )
    assert "was float64 when" in sample(workspace, view, edited(more=DELAY)).why_not


def test_a_stale_plan_is_not_applied(live):
    """Two plans at once: the second is refused and told why; a repeated first one is done."""
    mine, theirs = edited(last_delay=DELAY + 1), edited(last_delay=DELAY + 2)
    one, two = planned(live, mine), planned(live, theirs)
    register(live, one, one.plan.id)
    assert register(live, planned(live, mine), one.plan.id).revision == 1
    with pytest.raises(Conflict, match=r"apply: somebody applied: revision 0 became 1; plan again"):
        register(live, planned(live, theirs), two.plan.id)
    with pytest.raises(Conflict, match="somebody else did so first"):
        register(live, two)
    assert live.registry.head().project == one.project


def git(folder, *words):
    """Run git in a folder as somebody."""
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_who_lacks_the_applied_commit_is_told_to_pull(workspace, valkey):
    """Two people who apply from different commits do not undo each other unawares."""
    root = workspace.config.root
    git(root, "init", "-q")
    (root / ".gitignore").write_text("*.db\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "one")
    base = git(root, "rev-parse", "HEAD")
    git(root, "commit", "-q", "--allow-empty", "-m", "two")
    ahead = opened(root, valkey.url)
    ahead.who = "ann"
    register(ahead, planned(ahead, edited(more=DELAY)))
    commit = git(root, "rev-parse", "HEAD")
    assert ahead.registry.audit()[-1].commit == commit
    register(ahead, planned(ahead, edited(more=DELAY, most=DELAY)))
    ahead.close()

    git(root, "checkout", "-q", base)
    behind = opened(root, valkey.url)
    again = planned(behind, history())
    with pytest.raises(Conflict, match=f"ann applied commit {commit[:12]} at .*`git pull`"):
        register(behind, again)
    assert register(behind, again, anyway=True).revision == 3
    behind.close()


def respelled(view, *, dialect=OLD, **features):
    """Give a view as another Polars wrote it: in its dialect, some features in other bytes."""

    def spelled(name, expression):
        other = features.get(name)
        data = expression.spellings[0].data if other is None else other.meta.serialize()
        return Expression(spellings=(Spelling(dialect=dialect, data=data),))

    return identified(
        replace(
            view,
            features=tuple(
                replace(one, expression=spelled(one.name, one.expression)) for one in view.features
            ),
            filter=view.filter and spelled("filter", view.filter),
        )
    )


def stored_by_old(workspace, *views):
    """Apply, materialize and promote views as another Polars wrote them.

    The registry's documents have its dialect alone; only the rows were computed by this one.
    """
    apply(workspace, *views)
    apply(workspace, *(respelled(view, dialect=DIALECT) for view in views))
    materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    apply(workspace, *views)


def after_upgrade(workspace, *views):
    """Reconcile what the running Polars loads with what is applied."""
    project = shop(*views, name=workspace.config.project)
    return reconciled(workspace, facts(workspace), project)


def spellings(view):
    """Give the dialects of each of a view's expressions."""
    return {tuple(s.dialect for s in one.expression.spellings) for one in view.features}


def test_the_same_bytes_keep_their_version_and_gain_a_spelling(bare):
    """After an upgrade that writes alike, ids stay and the new dialect is recorded once."""
    apply(bare, respelled(history()), respelled(pace(history())))
    found = planned(bare, history(), pace(history()))
    assert {one.kind for one in found.plan.changed} == {"engine"}
    told = [step for step in found.plan.steps if isinstance(step, Respell)]
    assert [(one.view, one.version, one.dialect, one.evidence) for one in told] == [
        (name, view.id, DIALECT, f"{DIALECT} writes the same bytes")
        for name, view in (("history", history()), ("pace", pace(history())))
    ]
    register(bare, found)
    head = bare.registry.head().project
    assert set.union(*map(spellings, head.views)) == {(OLD, DIALECT)}
    again = planned(bare, history(), pace(history()))
    assert (again.plan.changed, again.equivalences) == ((), ())
    assert bare.registry.audit()[-2].action == "spell"


OTHER_BYTES = {"last_delay": 1 + DELAY}
LOADED = partial(edited, last_delay=DELAY + 1)


def test_other_bytes_that_compute_the_stored_rows_keep_their_version(bare):
    """Recomputed bit for bit over the newest rows, the version stays, and what reads it does."""
    old = respelled(LOADED(), **OTHER_BYTES)
    assert old.id != LOADED().id
    stored_by_old(bare, old, respelled(pace(old)))
    found = planned(bare, LOADED(), pace(LOADED()))
    assert [(one.name, one.kind) for one in found.plan.changed] == [
        ("history", "engine"),
        ("pace", "engine"),
    ]
    assert [view.id for view in found.project.views] == [old.id, pace(old).id]
    assert found.plan.changed[0].reasons == (
        f"history: written by {OLD}, now by {DIALECT}",
        f"history: {DIALECT} computes the 40 newest rows of {old.version} bit for bit",
    )
    register(bare, found)
    assert planned(bare, LOADED(), pace(LOADED())).plan.changed == ()
    assert spellings(bare.registry.version("history", old.id)) == {(OLD, DIALECT)}
    # The definitions' own bytes mean the old version from now on, also beside a change of policy.
    policy = planned(bare, replace(LOADED(), ttl=None)).plan.changed[0]
    assert (policy.kind, policy.before) == ("policy", old.version)


def test_without_rows_other_bytes_are_a_new_version(bare):
    """Nothing proves that they mean the same, and the plan says so."""
    old = respelled(LOADED(), **OTHER_BYTES)
    apply(bare, old)
    (change, *_) = planned(bare, LOADED()).plan.changed
    assert (change.kind, change.after) == ("breaking", LOADED().version)
    assert f"history: {old.version} has no rows to compare with" in change.reasons


def test_another_constant_is_a_new_version_whatever_the_rows_say(bare):
    """Rows that no threshold parts do not make two thresholds one."""
    stored_by_old(bare, respelled(edited(was_late=DELAY > 1_000)))
    found = after_upgrade(bare, edited(was_late=DELAY > 2_000))
    assert found.project.views[0].id == edited(was_late=DELAY > 2_000).id
    assert "its expressions are not those of" in found.evidence["history"]


def test_other_values_are_a_new_version(bare):
    """One value that differs is enough."""
    stored_by_old(bare, respelled(LOADED()))
    found = after_upgrade(bare, edited(last_delay=DELAY - 1))
    assert found.project.views[0].id == edited(last_delay=DELAY - 1).id
    assert "last_delay differ in rows" in found.evidence["history"]
    # The version that was applied can be read all the same, so it gains its bytes.
    assert [one.view.id for one in found.equivalences] == [respelled(LOADED()).id]


def test_bytes_that_this_polars_cannot_read_are_a_new_version(bare):
    """An on-demand view whose bytes are foreign has no rows to be proven by."""
    old = pace(history())
    broken = tuple(
        replace(one, expression=Expression(spellings=(Spelling(dialect=OLD, data=b"?"),)))
        for one in old.features
    )
    apply(bare, history(), identified(replace(old, features=broken)))
    found = after_upgrade(bare, history(), pace(history()))
    assert [view.id for view in found.project.views] == [history().id, pace(history()).id]
    assert found.equivalences == ()


def test_what_is_live_gains_the_bytes_though_the_repo_moved_on(bare):
    """Versions of a release are read and recomputed, so that servers can be upgraded."""
    old = respelled(history(), last_delay=DELAY * 1)
    stored_by_old(bare, old)
    apply(bare, history())
    found = planned(bare, history())
    (one,) = found.equivalences
    assert (one.view.id, spellings(one.view)) == (old.id, {(OLD, DIALECT)})
    assert one.evidence == (
        f"{DIALECT} reads its bytes and computes its 40 newest rows bit for bit"
    )
    assert found.plan.changed == ()
    register(bare, found)
    assert planned(bare, history()).equivalences == ()


def test_what_is_live_gains_no_bytes_that_compute_other_rows(bare):
    """Bytes that read otherwise now are not recorded: the old Polars has to serve them."""
    old = respelled(history(), last_delay=DELAY * 1)
    stored_by_old(bare, old)
    ROWS.with_columns(pl.col("delay") + 1).write_parquet(
        bare.config.root / "data" / "landings.parquet"
    )
    apply(bare, history())
    assert planned(bare, history()).equivalences == ()
