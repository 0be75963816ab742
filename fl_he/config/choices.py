"""Settings that are one of a few words."""

from __future__ import annotations

from enum import StrEnum


class Topology(StrEnum):
    """Who adds the ciphertexts: the coordinator (fold) or each hospital in turn (chain)."""

    fold = "fold"
    chain = "chain"


class Scaling(StrEnum):
    """In which units the hospitals' features are: see :attr:`Config.scaling`."""

    federated = "federated"
    ranges = "ranges"
    local = "local"
    none = "none"


#: The scalings under which one row has no influence on the others, or one that is accounted for.
PRIVATE_SCALINGS = (Scaling.ranges, Scaling.federated, Scaling.none)


class ClassWeight(StrEnum):
    """How much an example weighs in the loss, by its class."""

    equal = "equal"
    balanced = "balanced"


class Tracking(StrEnum):
    """Where a run is logged beside its own files."""

    none = "none"
    mlflow = "mlflow"
    tensorboard = "tensorboard"
    both = "both"
