"""What metrics.json must hold: the contract, version 1.

Figures are finite numbers or null. Where nobody holds test data, as in a deployment, ``local`` is
empty or null, ``pooled`` is null, and so is each figure on a test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_he.crypto.encoding.fields import (
    MISSING,
    Kind,
    Limit,
    Number,
    Place,
    constant,
    kind_of,
    limited,
    listed,
    mapped,
    optional,
)
from fl_he.errors import FlHeError

VERSION = 1
#: Value of ``protocol`` in a run of CaPC, whose contract is docs/capc.md's.
CAPC = "capc"

#: Quality of one model on the test set.
FIGURES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
#: What is known of one coefficient.
INFERENCE = (
    *("estimate", "standard_error", "z", "p_value", "lower", "upper"),
    *("odds_ratio", "odds_ratio_lower", "odds_ratio_upper"),
)
#: Seconds of one round, by step of the encrypted sum.
STEPS = ("encrypt_seconds", "add_seconds", "decrypt_seconds")
_ROUND = (
    *("loss", "accuracy", "test_loss", "test_accuracy"),
    *("contributors", "seconds", "bytes_sent", *STEPS),
)
_PRIVACY = (
    *("epsilon", "epsilon_of_one_update", "delta", "clip", "rounds", "contributors_counted"),
    *("noise_per_hospital", "noise_per_round", "scaling"),
)
_CRYPTO = ("key_bits", "slots_per_ciphertext", "ciphertexts_per_update", "bytes_per_update")


class MetricsError(FlHeError):
    """Metrics, or a run folder, that break the contract."""


_NUMBER, _TEXT, _FLAG = kind_of(Number), kind_of(str), kind_of(bool)
_FIGURE = optional(_NUMBER)


def _object(members: Mapping[str, Kind], later: Mapping[str, Kind] | None = None) -> Kind:
    """Return the kind of an object with these members; runs of earlier releases lack `later`."""

    def read(value: object, at: Place) -> object:
        if not isinstance(value, Mapping):
            raise at.mistyped("an object", value)
        for name, kind in members.items():
            kind.read(value.get(name, MISSING), at.part(name))
        for name, kind in (later or {}).items():
            if name in value:
                kind.read(value[name], at.part(name))
        return value

    return Kind(read)


def _numbers(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, _NUMBER)


def _figures(*names: str) -> dict[str, Kind]:
    """Return members that are numbers or null."""
    return dict.fromkeys(names, _FIGURE)


def _texts(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, _TEXT)


_MODEL = _object(_figures("examples", *FIGURES), later=_numbers("C"))
_TWO_CLASSES = _object({**_figures("intercept"), "coefficients": listed(_NUMBER)})
_CLASSES = _object({"intercept": listed(_NUMBER), "coefficients": listed(listed(_NUMBER))})


def _read_model(value: object, at: Place) -> object:
    model: Mapping[str, Any] = _MODEL.read(value, at)
    softmax = isinstance(model.get("intercept"), list)
    return (_CLASSES if softmax else _TWO_CLASSES).read(value, at)


_LOCAL = {**_figures("examples", *FIGURES), **_texts("hospital")}
_HOP = _object({**_texts("node", "action"), **_numbers("seconds"), "failed": _FLAG})
_ROUNDS = _object({**_figures(*_ROUND), **_numbers("round")}, later={"hops": listed(_HOP)})
_INFERENCE = {
    **_numbers("level"),
    "penalised": _FLAG,
    "coefficients": listed(_object({**_figures(*INFERENCE), **_texts("name")})),
}
_PRIVATE = {
    **_numbers(*_PRIVACY),
    **_figures("epsilon_towards_a_hospital", "noise_of_scaling"),
    **_texts("mechanism", "neighbours"),
    "not_covered": listed(_TEXT),
    "without": optional(_object(_figures(*FIGURES))),
}
_RUN = _object(
    {
        "version": constant(VERSION),
        **_texts("fl_he"),
        "config": _object({}),
    },
    later={
        "software": mapped(_TEXT),
        **_texts("ended"),
        "simulated": _FLAG,
        **dict.fromkeys(("feature_names", "classes"), listed(_TEXT)),
    },
)
_TRAINING = _object(
    {
        "config": _object(
            {"data": _object(_texts("name")), **_texts("topology"), **_numbers("hospitals")}
        ),
        "local": optional(listed(_object(_LOCAL))),
        "federated": Kind(_read_model),
        "pooled": optional(Kind(_read_model)),
        "rounds": limited(
            listed(
                _object({**_figures(*_ROUND), **_numbers("round")}, later={"hops": listed(_HOP)})
            ),
            Limit("have at least one entry", bool),
        ),
        "crypto": _object({**_texts("key_fingerprint"), **_numbers(*_CRYPTO)}),
        **_figures("seconds"),
    },
    later={
        "inference": optional(_object(_INFERENCE)),
        "evaluation": optional(
            _object(_figures("examples", "hospitals", *FIGURES, "calibration_error"))
        ),
        "privacy": optional(_object(_PRIVATE)),
        **_figures("start_seconds"),
    },
)

_QUALITY = _object(
    {**_figures("accuracy", "balanced_accuracy"), "per_class_accuracy": listed(_FIGURE)}
)
_QUERYING = _object(
    {
        **_texts("party"),
        **_numbers("queries"),
        # the others a deployed party tells nobody
        **_figures("answered", "refused", "examples"),
        **_figures("label_accuracy", "equal_to_plain_majority"),
    }
)


def _read_querying(value: object, at: Place) -> object:
    result: Mapping[str, Any] = _QUERYING.read(value, at)
    # a deployed party tells neither, and nobody one of them
    if not (result.get("before", "") is None and result.get("after", "") is None):
        _object(dict.fromkeys(("before", "after"), _QUALITY)).read(value, at)
    return value


def _read_voting_privacy(value: object, at: Place) -> object:
    found: Mapping[str, Any] = _object(_figures("epsilon")).read(value, at)
    spent = _figures if found["epsilon"] is None else _numbers
    return _object(spent("delta", "queries")).read(value, at)


_VOTING = _object(
    {
        "encrypted": _FLAG,
        "querying": listed(Kind(_read_querying)),
        "privacy": Kind(_read_voting_privacy),
        "steps": listed(
            _object({**_texts("step"), **_numbers("hops", "seconds", "node_seconds", "bytes_sent")})
        ),
        **_numbers("seconds"),
    },
    later={
        "analysis": optional(
            _object({**_numbers("epsilon_by_votes"), "releasable": constant(False)})
        ),
        "keys": listed(_object(_texts("owner", "paillier", "dgk"))),
        "agreement": optional(_TEXT),
    },
)


def check_metrics(metrics: object) -> None:
    """Refuse metrics that break the contract.

    Parameters
    ----------
    metrics : object
        As decoded from JSON.

    Raises
    ------
    MetricsError
        With the place of the first thing that is wrong.
    """
    at = Place("metrics", MetricsError)
    top: Mapping[str, Any] = _RUN.read(metrics, at)
    (_VOTING if top.get("protocol") == CAPC else _TRAINING).read(top, at)
