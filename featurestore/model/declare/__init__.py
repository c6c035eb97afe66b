"""From raw declarations to documents: every rule a definition must keep.

What of a document makes its ids is said in `model.identity`.
"""

from featurestore.model.declare.batch import KnownAt, batch_view
from featurestore.model.declare.on_demand import on_demand_view
from featurestore.model.declare.project import project, service
from featurestore.model.declare.rules import check_outputs
from featurestore.model.declare.windows import Aggregate, window_dtype

__all__ = [
    "Aggregate",
    "KnownAt",
    "batch_view",
    "check_outputs",
    "on_demand_view",
    "project",
    "service",
    "window_dtype",
]
