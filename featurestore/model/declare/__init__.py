"""From raw declarations to documents with identities: every rule a definition must keep.

Identity holds what changes a value and nothing else. A frame is the source's logical name, its time
and id columns with their rules, the filter and the join keys; a feature adds its name, dtype, the
columns it reads and its expression; a version is all features of a view with its ttl.
"""

from featurestore.model.declare.batch import KnownAt, batch_view
from featurestore.model.declare.on_demand import on_demand_view
from featurestore.model.declare.project import project, service

__all__ = ["KnownAt", "batch_view", "on_demand_view", "project", "service"]
