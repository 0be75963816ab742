"""Messages of an encrypted sum between the coordinator and the nodes, and their actions.

No other file knows their record keys and array types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import numpy as np
from flwr.app import Array, Message, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import (
    Kind,
    Limit,
    Natural,
    Place,
    Whole,
    choice,
    form_of,
    kind_of,
)
from fl_he.crypto.encoding.strict_json import Base64, Document
from fl_he.crypto.schemes import PAILLIER, SCHEMES, Scheme
from fl_he.errors import visible
from fl_he.learning.regression.disclosure import Figures
from fl_he.learning.regression.registry import NUMERIC
from fl_he.run_files.metrics_contract import EXPOSED
from fl_he.wire import records
from fl_he.wire.records import ENCRYPTED_STYPE, ENVELOPE_STYPE, SPARSE, Seconds, blob, blobs, floats

#: Train actions before the first round: what the hospitals' data sum up to.
MOMENTS = "train.moments"
#: Train actions outside the rounds: derivatives of several models, and of Firth's penalty there.
PROFILE = "train.profile"
FIRTH = "train.firth"
#: Train action after the last round: on which side of a model the examples are.
SEPARATION = "train.separation"
#: Train action after the last round: how the hospitals differ.
SITES = "train.sites"
#: Counts on held-out data.
FIGURES = "evaluate.figures"
#: Counts and sums of all rows, for a table of descriptive statistics.
TABLE = "evaluate.table"
DESCRIBE = "query.describe"
DECRYPT = "query.decrypt"
END = "query.end"
FINISH = "query.finish"

#: Default key of the metric that weights a mean, as in Flower.
NUM_EXAMPLES = "num-examples"
LOSS = "loss"
ACCURACY = "accuracy"

TOTAL_STYPE = "fl-he.total"
SIGNED_STYPE = "fl-he.signed-total"
RUN_KEY_STYPE = "fl-he.run-key"
PLAIN_STYPE = "fl-he.plain"

#: What is summed up: updates; metrics of a model; what is to be known before the first model;
#: counts on held-out data; derivatives of Firth's penalty; derivatives on profile likelihoods;
#: counts of examples on the sides of a model; differences between the hospitals; cells of a table.
Purpose = Literal[
    "train", "evaluate", "prepare", "figures", "firth", "profile", "separation", "sites", "table"
]
#: Purposes of sums that company X opens and does not give out, by the action that hospitals answer.
#: The constant in such replies is -1, and 1 in all others: a sum passes for no other kind.
RESTRICTED: Mapping[str, Purpose] = {
    FIGURES: "figures",
    SEPARATION: "separation",
    SITES: "sites",
    TABLE: "table",
}

_SUM_RECORD = "fl-he.sum"
_PLAIN_RECORD = "fl-he.plain"
_SIGNED_RECORD = "fl-he.signed"
_VALUE_KEYS = "fl-he.value-keys"
_SUM = "sum"
_Sum = Annotated[Base64, blob(_SUM_RECORD, _SUM, ENCRYPTED_STYPE, "ciphertext")]
#: Company X's value key, sealed to one hospital of the manifest; see `fl_he.crypto.tickets`.
ValueKey = Annotated[bytes, blob("fl-he.value-key", "key", ENVELOPE_STYPE, "envelope")]
ValueKeys = Annotated[dict[str, bytes], blobs(_VALUE_KEYS, ENVELOPE_STYPE, "envelope"), SPARSE]
#: Company X's signed statement of the key, sent with it; see :mod:`fl_he.wire.run_key`.
SignedKey = Annotated[bytes, blob("fl-he.run-key", "key", RUN_KEY_STYPE, "run-key")]
_SimulatedSeconds = Annotated[Seconds, SPARSE]
#: Flower's strategies write it into every train config. A resumed run counts on.
SERVER_ROUND = "server-round"

_SHOWN_LENGTH = 500


class Role(StrEnum):
    """Task of a node in the federation; the value of ``role`` in its node configuration."""

    HOSPITAL = "hospital"
    KEY_HOLDER = "key-holder"


@dataclass(frozen=True, slots=True)
class DescribeRequest(records.Message):
    """Ask a node what it is.

    Attributes
    ----------
    resumed : str
        Company X's session, to continue in; empty for the one of this run.
    """

    resumed: Annotated[str, SPARSE] = ""


@dataclass(frozen=True, slots=True)
class EndRequest(records.Message):
    """Tell company X that a session's run is over: it deletes the session's key."""

    session: str


@dataclass(frozen=True, slots=True)
class Description(records.Message):
    """A node's answer to ``query.describe``.

    Attributes
    ----------
    role : Role
    name : str
        The node's name in messages to people.
    version : str
        The version of fl-he that the node runs.
    features : tuple of str
        A hospital's feature names in the order of its coefficients; empty where the app has none.
    classes : tuple of str
        A hospital's classes in the order of their labels if there are more than two; else empty.
    family : str
        Of a hospital's outcome that is a number; empty where it is a class.
    exposure : str
        Name of a hospital's column of exposures; empty without.
    public_key : str
        Company X's public key as JSON; empty for a hospital.
    session : str
        Company X's name for this run: it opens sums of this session only.
    packing : str
        The only packing, as JSON, in which company X opens sums.
    simulated : bool
        Whether the node lives in a simulation.
    value_keys : dict of str to bytes
        With a manifest, company X's value key, sealed to each hospital by its name.
    run_key : bytes or None
        With a manifest, company X's signed statement of its key.
    schemes : tuple of str
        The schemes of sums that the node accepts.
    resistant : bool
        Whether a hospital masks its updates pairwise.
    identity : str
        In a simulation with pairwise masks, JSON of the node's public identity.
    imputed : tuple of str
        Columns of a hospital's table whose missing cells get the mean of all hospitals' cells.
    """

    role: Role
    name: str
    version: str
    features: tuple[str, ...] = ()
    public_key: str = ""
    session: str = ""
    packing: str = ""
    simulated: bool = False
    classes: tuple[str, ...] = ()
    value_keys: ValueKeys = field(default_factory=dict, repr=False)
    run_key: SignedKey | None = field(default=None, repr=False)
    schemes: tuple[Scheme, ...] = SCHEMES
    resistant: Annotated[bool, SPARSE] = False
    identity: Annotated[str, SPARSE] = ""
    imputed: Annotated[tuple[str, ...], SPARSE] = ()
    family: Annotated[str, choice("", *NUMERIC), SPARSE] = ""
    exposure: Annotated[str, SPARSE] = ""
    ALONE: ClassVar[str] = "a description must hold no other records"

    def __post_init__(self) -> None:
        if self.exposure and self.family not in EXPOSED:
            raise records.ProtocolError(f"exposure must come with family {' or '.join(EXPOSED)}")


@dataclass(frozen=True, slots=True)
class EncryptionRequest(records.Message):
    """Request of a train or evaluate message to ``encryption_mod``.

    Attributes
    ----------
    public_key, packing : str
        JSON of the key to encrypt under and of the slots to use.
    session : str
        Company X's session.
    round : int
        The round, from 1.
    weighted_by : str
        The metric that weights the mean, Flower's ``num-examples`` as a rule.
    running_sum : bytes or None
        Chain only: the encrypted sum so far, to which the update is added.
    layout : str
        JSON of the layout of the sum, as far as it is known: the update must have its metrics.
    exact : bool
        Whether the update must have exactly that layout; with a running sum it must.
    value_key : bytes or None
        Company X's, sealed to this hospital; a hospital with a manifest must be given it.
    run_key : bytes or None
        Company X's signed statement of its key; a hospital with a manifest must be given it.
    scheme : Scheme
        Encryption of the update.
    """

    public_key: str
    packing: str
    session: Annotated[str, Limit("name company X's session", len)]
    round: Natural
    weighted_by: str = NUM_EXAMPLES
    running_sum: _Sum | None = field(default=None, repr=False)
    layout: Annotated[str, SPARSE] = ""
    exact: Annotated[bool, SPARSE] = False
    value_key: ValueKey | None = field(default=None, repr=False)
    run_key: SignedKey | None = field(default=None, repr=False)
    scheme: Annotated[Scheme, SPARSE] = PAILLIER


@dataclass(frozen=True, slots=True)
class EncryptedReply(records.Message):
    """A hospital's whole answer: a ciphertext, its public layout, and what it cost.

    Attributes
    ----------
    encrypted_sum : bytes
        The encrypted update with its ticket, or the running sum with both added; see
        `fl_he.crypto.tickets.ticketed_sum`.
    layout : str
        JSON of names, shapes and dtypes of what the slots hold. Public.
    encrypt_seconds, add_seconds : float
        Wall time at a simulated hospital; a deployed one keeps them.
    plain : ndarray
        The arrays that both sides chose not to encrypt; empty as a rule.
    left_out : str
        JSON of a layout of the metrics that the app replied and the sum has not; empty as a rule.
    simulated_log : str
        In a simulation, which has no logs of nodes: what did not fit. Deployed nodes never say it.
    """

    encrypted_sum: _Sum = field(repr=False)
    layout: str
    encrypt_seconds: _SimulatedSeconds = 0.0
    add_seconds: _SimulatedSeconds = 0.0
    plain: Annotated[NDArray[np.float64], floats(_PLAIN_RECORD, _SUM, PLAIN_STYPE), SPARSE] = field(
        default_factory=lambda: np.empty(0), repr=False
    )
    left_out: Annotated[str, SPARSE] = ""
    simulated_log: Annotated[str, SPARSE] = field(default="", repr=False)
    ALONE: ClassVar[str] = (
        "a hospital's reply must be encrypted, got plain records {others}, which the coordinator "
        "has seen: its ClientApp must have encryption_mod as its first mod"
    )


@dataclass(frozen=True, slots=True)
class DecryptRequest(records.Message):
    """Ask company X to open one round's sum.

    Attributes
    ----------
    session : str
        The session that company X gave in its description.
    purpose : Purpose
    round : int
    contributors : int
        How many hospitals the coordinator claims are in the sum.
    encrypted_sum : bytes
    metric_values : int
        How many numbers of metrics with weights of their own are at the end of the sum.
    """

    session: str
    purpose: Purpose
    round: Natural
    contributors: Natural
    encrypted_sum: _Sum = field(repr=False)
    metric_values: Annotated[Whole, SPARSE] = 0


@dataclass(frozen=True, slots=True)
class DecryptReply(records.Message):
    """The total of one round: a float64 vector as long as the encrypted one.

    A simulated company X says how long it took to decrypt; a deployed one keeps that. Where it
    computes the model too, the total comes again as it is told everybody, signed: see
    :mod:`fl_he.wire.totals`.
    """

    total: Annotated[NDArray[np.float64], floats(_SUM_RECORD, _SUM, TOTAL_STYPE)] = field(
        repr=False
    )
    decrypt_seconds: _SimulatedSeconds = 0.0
    signed: Annotated[bytes | None, blob(_SIGNED_RECORD, "total", SIGNED_STYPE, "total")] = field(
        default=None, repr=False
    )


@dataclass(frozen=True, slots=True)
class MisfitReply(records.Message):
    """Company X's whole answer if at some hospitals the app failed, or a value did not fit.

    No number of the sum leaves, nor how many hospitals they were.
    """

    HOME: ClassVar[str] = "fl-he.misfit"
    ALONE: ClassVar[str] = "company X's word that values did not fit must be one record"

    @classmethod
    def is_in(cls, content: RecordDict) -> bool:
        """Tell whether a reply says this."""
        return cls.HOME in content


_FIGURES = Document("the figures", form_of(Figures).members, 1 << 24, records.ProtocolError)
_TEXT = kind_of(str)


def _read_figures(text: object, at: Place) -> Figures:
    return _FIGURES.loads(_TEXT.read(text, at), Figures)


@dataclass(frozen=True, slots=True)
class FiguresReply(records.Message):
    """Figures that company X gives out of opened counts, for the purpose ``figures``."""

    figures: Annotated[Figures, Kind(_read_figures, _FIGURES.dumps)]
    decrypt_seconds: _SimulatedSeconds = 0.0


def printable(text: str) -> str:
    """Return a text that another node sent as one line fit to show to people."""
    return " ".join(visible(text).split())[:_SHOWN_LENGTH]


def content_bytes(message: Message) -> int:
    """Return the size of a message's records and their keys in bytes, 0 for an error."""
    records = message.content.values() if message.has_content() else ()
    return sum(len(key) + _value_bytes(value) for one in records for key, value in one.items())


def _value_bytes(value: object) -> int:
    # Flower's own ConfigRecord.count_bytes fails on an empty text or list.
    if isinstance(value, Array):
        return len(value.data)
    if isinstance(value, list):
        return sum(_value_bytes(item) for item in value)
    return len(value) if isinstance(value, str | bytes) else 8
