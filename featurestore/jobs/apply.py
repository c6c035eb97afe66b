"""Apply: register what a repo defines; computes nothing."""

from featurestore.errors import Conflict
from featurestore.jobs.commit import contains
from featurestore.jobs.plan import Planned, plan
from featurestore.jobs.workspace import Workspace
from featurestore.model.plan import Plan, registered, same_definitions, stale
from featurestore.model.time import show


def apply(
    workspace: Workspace, plan_id: str | None = None, *, alias: str = "prod", anyway: bool = False
) -> Plan:
    """Register the repo's definitions; a second time changes nothing.

    Gives the plan that was applied, under the id that a plan has from now on. With `plan_id`, what
    is applied is that plan or nothing. `anyway` takes over from a commit that is not in this
    checkout.

    Raises:
        InvalidDefinition: the repo's definitions cannot be accepted.
        Conflict: the plan is stale, somebody else applied since, or what is applied comes from a
            git commit that this checkout does not have; nothing was written.
    """
    found = plan(workspace, alias)
    return register(workspace, found, plan_id, anyway=anyway)


def register(
    workspace: Workspace, found: Planned, plan_id: str | None = None, *, anyway: bool = False
) -> Plan:
    """Register what a plan was made of; as `apply`, for a repo that was read already."""
    made = found.plan
    done = not made.changed and made.revision is not None and not found.equivalences
    if done and (plan_id is None or same_definitions(plan_id, made.id)):
        return made
    moved = None if plan_id is None else stale(plan_id, made.id)
    if moved is not None:
        raise Conflict(f"apply: {moved}; plan again, nothing was written")
    if not anyway:
        _refuse_foreign(workspace)
    now, who, commit = workspace.clock(), workspace.who, workspace.commit
    for one in found.equivalences:
        workspace.registry.add_spelling(
            one.view, dialect=one.dialect, evidence=one.evidence, now=now, who=who, commit=commit
        )
    head = workspace.registry.apply(
        found.project, expected=made.revision, now=now, who=who, commit=commit
    )
    return registered(made, found.project, head.revision)


def _refuse_foreign(workspace: Workspace) -> None:
    """Refuse to undo what somebody applied from a commit that this checkout does not have."""
    applied = [entry for entry in workspace.registry.audit() if entry.action == "apply"]
    last = applied[-1] if applied else None
    if last is None or last.commit is None:
        return
    if contains(workspace.config.root, last.commit) is False:
        raise Conflict(
            f"apply: {last.who} applied commit {last.commit[:12]} at {show(last.at)}, which this "
            "checkout does not have; `git pull` and plan again, or `featurestore apply --anyway` "
            "to replace it; nothing was written"
        )
