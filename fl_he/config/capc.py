"""``capc``: parties label each other's queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from fl_he.config.constraints import Constraint, Epsilon, Finite, Positive, Share, whole


class Backend(StrEnum):
    """Whether CaPC's votes are computed under encryption, or in plain for studies."""

    encrypted = "encrypted"
    plain = "plain"


#: With ``voting=binary`` each label takes a batch.
MOST_LABELS = 16
#: 32 classes.
MOST_OF_A_POWERSET = 5


class Voting(StrEnum):
    """Votes for one label of several classes, or for several labels of a case."""

    single = "single"
    binary = "binary"
    tau = "tau"
    powerset = "powerset"


@dataclass
class CapcConfig:
    """Parties label each other's queries instead of training one model.

    Attributes
    ----------
    enabled : bool
        Whether the run is one of CaPC; ``experiment=capc_breast_cancer`` sets it.
    backend : Backend
        ``plain`` computes the same votes without any encryption.
    voting : Voting
        ``binary``, ``tau`` and ``powerset`` answer all of `labels` for each case: by a vote for
        each label, by one vote of vectors that are clipped to the norm `tau`, or by one vote for
        the subset of at most 5 labels.
    labels : list of str
        Columns of a table of your own that say by 0 and 1 whether a case has a label, in the place
        of ``data.target``: ``"capc.labels=[edema,effusion]"``.
    tau : float or None
        Largest L2 norm of the positive votes of a party for a case, with ``voting=tau``.
    models : list of str
        Kinds of the parties' models, or ``network:FILE``; the parties take them in turn.
    querying : list of int
        Numbers of the hospitals that query, from 1. All others answer.
    queries : int
        How many cases each of them asks about.
    selection : str
        Which ones: ``random``, ``entropy``, ``margin`` or ``k_center``.
    pool_size : float
        Share of the patients whose labels nobody has: they are asked about.
    examples : int or None
        How many examples a querying party has; None for a share like the others'.
    weak_classes : list of int
        Classes of which a querying party has few examples.
    weak_ratio : float
        Share of those examples that the party keeps.
    sigma_gnmax : float or None
        Standard deviation of the noise on each count; None for no noise.
    sigma_threshold : float or None
        Standard deviation of the noise of the threshold test; None for no noise.
    threshold : float or None
        The count that the largest one must reach, noise included; None: every query is answered.
    epsilon : float or None
        The budget of each answering party's patients; None for no budget.
    delta : float
        Delta of (epsilon, delta) differential privacy.
    value_bits : int
        Bits of a number that is compared.
    feature_fraction_bits, feature_integer_bits : int
        Fixed point of a feature.
    fourier_components : int
        Public random Fourier features, for parties with the model ``fourier``.
    fourier_gamma : float or None
        Of their kernel ``exp(-gamma * distance**2)``; None for 1 / features.
    """

    enabled: bool = False
    backend: Backend = Backend.encrypted
    voting: Voting = Voting.single
    labels: list[str] = field(default_factory=list)
    tau: Positive | None = None
    models: Annotated[list[str], Constraint("a list of at least one kind", bool)] = field(
        default_factory=lambda: ["logistic", "lda", "linear_svc"]
    )
    querying: list[int] = field(default_factory=lambda: [1])
    queries: Annotated[int, whole(1, 100_000)] = 50
    selection: str = "random"
    pool_size: Share = 0.3
    examples: Annotated[int, whole(1, 1_000_000_000)] | None = None
    weak_classes: list[int] = field(default_factory=list)
    weak_ratio: Annotated[float, Constraint("from 0 to 1", lambda x: 0 <= x <= 1)] = 1.0
    sigma_gnmax: Positive | None = None
    sigma_threshold: Positive | None = None
    threshold: Finite | None = None
    epsilon: Epsilon | None = None
    delta: Share = 1e-5
    value_bits: Annotated[int, whole(16, 80)] = 32
    feature_fraction_bits: Annotated[int, whole(0, 32)] = 12
    feature_integer_bits: Annotated[int, whole(1, 32)] = 5
    fourier_components: Annotated[int, whole(1, 10_000)] = 100
    fourier_gamma: Positive | None = None
