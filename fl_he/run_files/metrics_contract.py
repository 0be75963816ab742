"""Contract of metrics.json, version 1.

Figures are finite numbers or null. Where nobody holds test data, as in a deployment, ``local`` is
empty or null, ``pooled`` is null, and so is each figure on a test set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    optional,
)
from fl_he.errors import FlHeError

VERSION = 1
#: Value of ``protocol`` in a run of CaPC, whose contract is docs/capc.md's.
CAPC = "capc"
#: The same of a run that made a table of descriptive statistics.
TABLE = "table1"

#: Quality of one model on the test set.
FIGURES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
#: The same of a model of a number.
NUMBER_FIGURES = ("rmse", "mean_deviance", "d2")
#: The same of a model of a time to an event.
CONCORDANCE = "concordance"
#: Families of counts; those of the second one have an alpha.
POISSON, NEGATIVE_BINOMIAL = COUNTS = ("poisson", "negative_binomial")
#: Families of times to an event, with Efron's and with Breslow's ties.
COX, BRESLOW = "cox", "cox-breslow"
SURVIVAL = (COX, BRESLOW)
#: Families with a logarithmic link: the mean of an outcome is a multiple of the row's exposure.
EXPOSED = (*COUNTS, "gamma")
#: Families of numbers that can be trained with differential privacy: with declared bounds.
BOUNDED = ("gaussian", "poisson")
#: The ratio of a coefficient of classes.
ODDS_RATIO = "odds_ratio"
#: What is known of one coefficient; in addition its ratio, by the name that `ratio` says.
INFERENCE = ("estimate", "standard_error", "z", "p_value", "lower", "upper")
#: What is known of the model as a whole.
FIT = (
    *("log_likelihood", "null_log_likelihood", "deviance", "null_deviance", "aic", "mcfadden_r2"),
    "parameters",
)
_FIRTH = ("penalised_log_likelihood?", "penalised_null_log_likelihood?")
_GLM = ("d2?", "pearson?", "dispersion?", "dispersion_p_value?")
_BOUNDS = ("lower", "upper", "odds_ratio_lower", "odds_ratio_upper")
#: The federated model at one site: see docs/files.md.
SITE_FIGURES = ("roc_auc", "log_loss", "brier_score", "observed", "predicted")
#: Figures of alpha other than its estimate.
_UNCERTAIN = ("standard_error", "lower", "upper")
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
#: Objects and lists within one another, of which ours are a few.
_MOST_DEEP = 50
_CRYPTO = ("key_bits", "slots_per_ciphertext", "ciphertexts_per_update", "bytes_per_update")


class MetricsError(FlHeError):
    """Metrics, or a run folder, that break the contract."""


def _kind(spec: Any) -> Kind:
    """Return the kind of an annotation, or of a dict or a list with the kinds inside.

    A member whose name ends with "?" is absent in runs of earlier releases.
    """
    if isinstance(spec, list):
        return listed(_kind(spec[0]))
    if not isinstance(spec, dict):
        return spec if isinstance(spec, Kind) else kind_of(spec)
    kinds = {name: _kind(inner) for name, inner in spec.items()}

    def read(value: object, at: Place) -> object:
        if not isinstance(value, Mapping):
            raise at.mistyped("an object", value)
        for key, kind in kinds.items():
            name = key.rstrip("?")
            if name == key or name in value:
                kind.read(value.get(name, MISSING), at.part(name))
        return value

    return Kind(read)


def _numbers(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, Number)


def _figures(*names: str) -> dict[str, Any]:
    """Return members that are numbers or null."""
    return dict.fromkeys(names, Number | None)


def _read_model(value: object, at: Place) -> object:
    model: Mapping[str, Any] = _MODEL.read(value, at)
    softmax = isinstance(model.get("intercept"), list)
    return (_CLASSES if softmax else _TWO_CLASSES).read(value, at)


_OF_NUMBER = tuple(f"{name}?" for name in (*NUMBER_FIGURES, CONCORDANCE))
_MODEL = _kind(_figures("examples", *FIGURES, *_OF_NUMBER, "C?", "largest_difference?"))
_TWO_CLASSES = _kind({**_figures("intercept"), "coefficients": [Number | None]})
_CLASSES = _kind({"intercept": [Number | None], "coefficients": [[Number | None]]})
_HOP = {"node": str, "action": str, "seconds": Number, "failed": bool}
_ROUNDS = _kind(
    [
        {
            **_figures(*_ROUND, "gradient_norm?", "distance?"),
            **{"round": Number, "hops?": [_HOP]},
        }
    ]
)
_TEST = _figures("chi2", "df", "p_value")
_HETEROGENEITY = _figures("q", "df", "p_value", "i2", "estimate", "standard_error")
_ROBUST = _figures("standard_error", "t", "p_value", "lower", "upper")
_SITES = {
    **_figures("fits", "clusters"),
    **dict.fromkeys(("withheld", "robust_withheld"), str | None),
    "heterogeneity": [{**_HETEROGENEITY, "name": str}],
    "robust": [{**_ROBUST, "name": str}],
}
_INFERENCE = {
    "level": Number,
    "penalised": bool,
    **dict.fromkeys(("withheld", "outcome", "reference"), str | None),
    "coefficients": [
        {**_figures(*INFERENCE), "name": str, "class": str | None, "left_out": str | None}
    ],
    "fit": optional(
        _kind({**_figures(*FIT, *_FIRTH, *_GLM), "likelihood_ratio": optional(_kind(_TEST))})
    ),
    "proportional?": optional(
        _kind({**_TEST, "features": [{**_TEST, "name": str}], "withheld?": str | None})
    ),
    "groups": [{**_TEST, "columns": [str]}],
    "events?": Number | None,
    "ratio?": str | None,
    "freedom?": Number | None,
    "sites?": optional(_kind(_SITES)),
    "site_intercepts?": optional(_kind(_numbers("contributing", "silent", "withheld"))),
    "penalty?": str,
    **_figures("penalty_shift?"),
    "overdispersion?": optional(_kind(_figures("alpha", *_UNCERTAIN))),
    "profile?": optional(
        _kind(
            {
                **{"iterations": Number, "seconds": Number, "withheld": str | None},
                "intervals": [
                    {
                        **{**_figures(*_BOUNDS), "name": str},
                        **{"lower_reason": str | None, "upper_reason": str | None},
                    }
                ],
            }
        )
    ),
}


def ratio_figures(ratio: str) -> tuple[str, ...]:
    """Return the names of the figures of a ratio, for one unit and for one deviation more.

    An empty name has none.
    """
    both = (ratio, f"{ratio}_sd") if ratio else ()
    return tuple(f"{name}{end}" for name in both for end in ("", "_lower", "_upper"))


#: What is known of one coefficient of classes.
COEFFICIENT = (*INFERENCE, *ratio_figures(ODDS_RATIO))


def _read_inference(value: object, at: Place) -> object:
    found: Mapping[str, Any] = _kind(_INFERENCE).read(value, at)
    rows = _kind([_figures(*ratio_figures(found.get("ratio", ODDS_RATIO) or ""))])
    rows.read(found["coefficients"], at.part("coefficients"))
    return value


_SEPARATION = _kind({"kind": str, "columns": [str], "largest?": [str]})
_DIAGNOSTICS = {
    **{"constant": list[str] | None, "aliased": dict[str, list[str]] | None},
    **{"separation": optional(_SEPARATION), "unique": list[str] | None, "converged": bool | None},
}
_PRIVATE = {
    **_numbers(*_PRIVACY),
    **_figures("epsilon_towards_a_hospital", "noise_of_scaling", "noise_in_last_total?"),
    **{"mechanism": str, "neighbours": str, "not_covered": [str]},
    "without_noise?": optional(_kind(_figures(*FIGURES))),
}
_EVALUATION = {
    **_figures("examples", "hospitals", *FIGURES, "calibration_error", "brier_score?", "min_cell?"),
    "withheld?": dict[str, str],
}
_RUN = _kind(
    {
        **{"version": constant(VERSION), "fl_he": str, "config": {}},
        **{"software?": dict[str, str], "ended?": str, "simulated?": bool},
        **{"feature_names?": [str], "classes?": [str], "family?": str},
        "exposure?": str | None,
        **{"optimizer?": {"name": str, "reason": str}},
    }
)
_ROWS = _kind(_numbers("kept", "left_out"))
_TRAINING = _kind(
    {
        "config": {
            **{"data": {"name": str}, "topology": str, "hospitals": Number, "rounds?": Number},
            **{"C?": Number | None, "inference?": {}, "optimizer?": {}},
        },
        "local": optional(
            _kind([{**_figures("examples", *FIGURES, *_OF_NUMBER), "hospital": str}])
        ),
        "federated": Kind(_read_model),
        "pooled": optional(Kind(_read_model)),
        "rounds": limited(_ROUNDS, Limit("have at least one entry", bool)),
        "crypto": {
            "key_fingerprint": str,
            **_numbers(*_CRYPTO),
            "ticket_bytes_per_update?": Number | None,
            "masked_set?": Number,
            "scheme?": str,
            "key_kind?": str,
        },
        "diagnostics?": optional(_kind(_DIAGNOSTICS)),
        "inference?": optional(Kind(_read_inference)),
        "rows?": optional(_ROWS),
        "reference_levels?": dict[str, str] | None,
        "evaluation?": optional(_kind(_EVALUATION)),
        "privacy?": optional(_kind(_PRIVATE)),
        "sites?": optional(
            _kind([{**_figures("examples", *SITE_FIGURES), "hospital": str, "held_out": bool}])
        ),
        "class_shares?": optional(_kind(_figures(*FIGURES))),
        "imputed?": dict[str, Number] | None,
        **_figures("seconds", "start_seconds?", "tested_on?"),
    }
)


def _read_querying(value: object, at: Place) -> object:
    result: Mapping[str, Any] = _QUERYING.read(value, at)
    # a deployed party tells neither, and nobody one of them
    if not (result.get("before", "") is None and result.get("after", "") is None):
        _BEFORE_AND_AFTER.read(value, at)
    return value


def _read_voting_privacy(value: object, at: Place) -> object:
    found: Mapping[str, Any] = _kind(_figures("epsilon")).read(value, at)
    spent = _figures if found["epsilon"] is None else _numbers
    return _kind(spent("delta", "queries")).read(value, at)


_QUALITY = {
    **_figures("accuracy", "balanced_accuracy"),
    "per_class_accuracy": [Number | None],  # null for a class without a case
    "labels?": [{"label": str, **_numbers("accuracy", "balanced_accuracy"), **_figures("roc_auc")}],
}
_BEFORE_AND_AFTER = _kind({"before": _QUALITY, "after": _QUALITY})
_QUERYING = _kind(
    {
        **{"party": str, "queries": Number},
        # the others a deployed party tells nobody
        **_figures("answered", "refused", "examples", "label_accuracy", "equal_to_plain_majority"),
    }
)
_ANALYSIS = {"epsilon_by_votes": Number, "releasable": constant(expected=False)}
_VOTING = _kind(
    {
        "encrypted": bool,
        "querying": [Kind(_read_querying)],
        "privacy": Kind(_read_voting_privacy),
        "steps": [
            {"step": str, **_numbers("hops", "seconds", "bytes_sent"), **_figures("node_seconds")}
        ],
        "seconds": Number,
        "analysis?": optional(_kind(_ANALYSIS)),
        "keys?": [{"owner": str, "paillier": str, "dgk": str}],
        "agreement?": str | None,
        "masked_votes?": Number,
    }
)


_SUMMARY = {
    **_numbers("present", "missing"),
    **_figures("mean", "sd"),
    **{"quartiles": [[Number]], "counts": [Number]},
}
_CURVE = {
    **{"at_risk": [Number], "events": [Number], "remaining": [Number | None]},
    **{"survival": [Number], "least": [Number]},
    **{"standard_error": [Number | None], "median": Number | None},
}
_DESCRIBED = {
    **{**_numbers("rows", "min_cell"), **_figures("noise")},
    **{"by": str, "groups": [str], "sizes": [Number], "withheld": dict[str, str]},
    "variables": [
        {
            **{"name": str, "unit": str, "kind": str, "levels": [[str]]},
            **{"summaries": [_SUMMARY], "difference": Number | None, "withheld": str},
        }
    ],
    "survival": optional(
        _kind({"times": [Number], "curves": [_CURVE], "log_rank": optional(_kind(_TEST))})
    ),
    "time?": str | None,
}
_TABLE = _kind(
    {
        **{"simulated": bool, "hospitals": Number, "skipped": [str], "table": _DESCRIBED},
        "rows?": optional(_ROWS),
        "crypto": {
            **{"scheme": str, "key_fingerprint": str},
            **_numbers("key_bits", "ciphertexts_per_update", "bytes_per_update"),
            **_numbers("ticket_bytes_per_update", "masked_set"),
        },
        **_numbers("bytes_sent", "seconds"),
        "privacy": optional(
            _kind(
                {
                    **_numbers("epsilon", "epsilon_of_one_update", "delta", "contributors_counted"),
                    **_figures("epsilon_towards_a_hospital"),
                }
            )
        ),
    }
)
_OF_PROTOCOL = {CAPC: _VOTING, TABLE: _TABLE}


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


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
    level = [metrics]
    for _ in range(_MOST_DEEP):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise at.wrong(f"be nested at most {_MOST_DEEP} deep")
    top: Mapping[str, Any] = _RUN.read(metrics, at)
    protocol = top.get("protocol")
    kind = _OF_PROTOCOL.get(protocol) if isinstance(protocol, str) else None
    (kind or _TRAINING).read(top, at)
