"""Plan and apply: from a repo's definitions to the registry."""

from featurestore.definitions.loader import load
from featurestore.errors import InvalidDefinition
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Project
from featurestore.model.plan import Plan, compare


def plan(workspace: Workspace) -> tuple[Plan, Project]:
    """Say what applying the repo would change, and hand back what it says now; writes nothing.

    Raises:
        InvalidDefinition: the repo's definitions cannot be accepted.
    """
    project = load(workspace.config.root)
    if project.name != workspace.config.project:
        raise InvalidDefinition(
            f"feature_store.yaml: the project is {workspace.config.project!r} here and "
            f"{project.name!r} to its own loader; set the variables it uses in the environment"
        )
    head = workspace.registry.head()
    found = compare(
        head.project if head else None, project, revision=head.revision if head else None
    )
    return found, project


def apply(workspace: Workspace) -> Plan:
    """Register the repo's definitions; computes nothing, and a second time changes nothing.

    Raises:
        InvalidDefinition: the repo's definitions cannot be accepted.
        Conflict: somebody else applied since this plan was made; nothing was written.
    """
    found, project = plan(workspace)
    if found.changed or found.revision is None:
        workspace.registry.apply(
            project, expected=found.revision, now=workspace.clock(), who=workspace.who
        )
    return found
