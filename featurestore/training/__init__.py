"""Training rows: a point-in-time join over stored tables, and the lock it leaves behind.

May import errors, model, engine, `storage.keys` and `storage.parquet`; tables come in through the
protocol `Tables`, and pandas is touched only when a caller brings or asks for it. Its law: every
entity row comes back exactly once, in its order, with only what was known at its moment.
"""

from featurestore.training.observed import observed
from featurestore.training.tables import Tables
from featurestore.training.training_set import TrainingSet, WithheldWarning, training_set

__all__ = ["Tables", "TrainingSet", "WithheldWarning", "observed", "training_set"]
