"""Runs of every kind for the page, with names that somebody else has chosen badly."""

from __future__ import annotations

from typing import Any

from example_metrics import make_deployed, make_metrics, make_private

from fl_he.run_files.metrics_contract import COEFFICIENT, FIT

HOSTILE = "<script>alert('x')</script>\"'&{{ 7 * 7 }}"


def make_newton() -> dict[str, Any]:
    """Metrics of a run with standard errors, hops, and everything that a run can tell."""
    metrics = make_metrics(rounds=6)
    names = [HOSTILE, *(f"a rather long feature name {n}" for n in range(12))]
    metrics["feature_names"] = names
    metrics["federated"]["coefficients"] = [0.5] * len(names)
    metrics["inference"] = {
        "level": 0.95,
        "penalised": False,
        **{"withheld": None, "outcome": HOSTILE, "reference": None},
        "coefficients": [
            {"name": name, "class": None, "left_out": None, **dict.fromkeys(COEFFICIENT, 0.0625)}
            for name in names
        ],
        "fit": {
            **dict.fromkeys(FIT, -0.0625),
            "likelihood_ratio": {"chi2": 2.5, "df": 2, "p_value": 0.25},
        },
        "groups": [{"columns": [HOSTILE], "chi2": 2.5, "df": 1, "p_value": 0.0625}],
        "profile": {
            **{"iterations": 5, "seconds": 0.5, "withheld": None},
            "intervals": [
                {
                    **{"name": HOSTILE, "lower": 0.5, "upper": None},
                    **{"odds_ratio_lower": 1.65, "odds_ratio_upper": None},
                    **{"lower_reason": None, "upper_reason": "beyond 100 standard errors: no end"},
                }
            ],
        },
    }
    metrics["simulated"] = True
    metrics["software"] = {"python": "3.11.9", "flwr": "1.41.0"}
    metrics["ended"] = "2026-01-02T03:04:05+00:00"
    metrics["config"] |= {
        "optimizer": {"name": "newton"},
        "scaling": "federated",
        "evaluate": True,
        "output_dir": "/a/very/long/path" * 8,
    }
    for entry in metrics["rounds"]:
        entry["gradient_norm"] = 10.0 ** -entry["round"]
        entry["hops"] = [
            {
                "node": node,
                "action": "train",
                "seconds": 0.25 * entry["round"],
                "failed": node == HOSTILE,
            }
            for node in (HOSTILE, "hospital-2", "company X")
        ]
    metrics["rounds"][2]["skipped"] = [HOSTILE]
    metrics["local"][0]["hospital"] = HOSTILE
    metrics["evaluation"] = {
        **dict.fromkeys(("accuracy", "balanced_accuracy", "roc_auc", "log_loss"), 0.875),
        **{"examples": 16, "hospitals": 3, "calibration_error": 0.125},
        **{"brier_score": 0.0625, "min_cell": 5, "confusion": None},
        "withheld": {
            "confusion": "such a figure, or a difference, would count 1 to 4 patients (min_cell=5)"
        },
        "calibration": [
            {"lower": 0.0, "upper": 0.5, "examples": 7, "predicted": 0.125, "observed": 0.0},
            {"lower": 0.5, "upper": 1.0, "examples": 9, "predicted": 0.875, "observed": 1.0},
        ],
    }
    return metrics


def make_classes() -> dict[str, Any]:
    """Metrics of a run with more than two classes."""
    metrics = make_metrics()
    for model in ("federated", "pooled"):
        metrics[model] |= {"coefficients": [[0.5, -1.25]] * 3, "intercept": [0.0, 0.25, 0.5]}
    return metrics | {"feature_names": ["x", "y"], "classes": ["red", HOSTILE, "blue"]}


def make_sealed() -> dict[str, Any]:
    """Metrics of a sealed chain, whose coordinator knows next to nothing."""
    metrics = make_deployed()
    metrics["config"] |= {"topology": "chain", "sealed": True}
    metrics["federated"] |= {"coefficients": [], "intercept": None, "examples": None}
    for entry in metrics["rounds"]:
        entry.update(loss=None, accuracy=None)
    return metrics | {"simulated": False, "feature_names": ["age", HOSTILE]}


def make_capc(*, encrypted: bool = True, epsilon: float | None = 9.5) -> dict[str, Any]:
    """Metrics of a run of CaPC."""

    def quality(shift: float) -> dict[str, Any]:
        return {
            "accuracy": 0.5 + shift,
            "balanced_accuracy": 0.25 + shift,
            "per_class_accuracy": [0.5 + shift, None, 0.75],
        }

    return {
        **{"version": 1, "protocol": "capc", "fl_he": "0.1.0", "encrypted": encrypted},
        "config": {"data": {"name": "digits"}, "hospitals": 4, "capc": {"queries": 60}},
        "querying": [
            {
                **{"party": HOSTILE, "queries": 60, "answered": 57, "refused": 3, "examples": 20},
                **{"label_accuracy": 0.9375, "equal_to_plain_majority": 1.0},
                **{"before": quality(0.0), "after": quality(0.125)},
            }
        ],
        "privacy": {"epsilon": epsilon, "delta": 1e-5, "queries": 60},
        "steps": [
            {"step": f"query.capc_{s}", "hops": 1, "seconds": 1.5, "node_seconds": 0.5, **sent}
            for s, sent in (("ask", {"bytes_sent": 1024}), ("logit_bits", {"bytes_sent": 2048}))
            if encrypted
        ],
        "keys": [{"owner": HOSTILE, "paillier": "ab" * 32, "dgk": "cd" * 32}] if encrypted else [],
        "seconds": 12.5,
    }


def make_many_labels() -> dict[str, Any]:
    """Metrics of a run of CaPC with two labels, one of which no case of the test set has."""
    metrics = make_capc()
    for result in metrics["querying"]:
        for when, auc in (("before", 0.5), ("after", 0.75)):
            result[when] |= {
                "per_class_accuracy": [],
                "labels": [
                    {
                        **{"label": label, "accuracy": 0.5, "balanced_accuracy": auc - 0.125},
                        "roc_auc": known,
                    }
                    for label, known in ((HOSTILE, auc), ("effusion", None))
                ],
            }
    return metrics


def make_deployed_capc() -> dict[str, Any]:
    """Metrics of a deployed run of CaPC, whose parties do not reveal its result."""
    metrics = make_capc()
    for result in metrics["querying"]:
        result.update(dict.fromkeys(result.keys() - {"party", "queries"}))
    return metrics | {"agreement": "ef" * 32}


def make_table() -> dict[str, Any]:
    """Return metrics of a table by two groups, with curves, merged levels and a withheld column."""
    number: dict[str, Any] = {"present": 40, "missing": 0, "mean": 3.5, "sd": 1.25, "counts": []}
    number["quartiles"] = [[1.0, 2.0], [3.0, 3.0], [4.0, 5.0]]
    category: dict[str, Any] = {
        "present": 30,
        "missing": 10,
        "mean": None,
        "sd": None,
        "quartiles": [],
    }
    category["counts"] = [10, 20]
    both = {"unit": "", "difference": 0.25, "withheld": ""}
    curve = {"at_risk": [40, 20], "events": [10, 20], "survival": [0.75, 0.0]}
    curve |= {"remaining": [20, None], "least": [0.625, 0.0]}
    curve |= {"standard_error": [0.0625, None], "median": 24.0}
    variables = [
        {**both, "name": HOSTILE, "kind": "number", "levels": [], "summaries": [number] * 3},
        {
            **{**both, "name": "stage", "kind": "category", "summaries": [category] * 3},
            **{"levels": [["I"], ["II", "III"]], "withheld": "levels are merged"},
        },
        {
            **{**both, "name": "crp", "kind": "number", "levels": [], "summaries": []},
            **{"difference": None, "withheld": "missing cells are few"},
        },
    ]
    metrics = make_metrics()
    shared = ("version", "fl_he", "software", "ended", "simulated", "config")
    return {
        **{key: metrics[key] for key in shared if key in metrics},
        **{"simulated": True, "protocol": "table1", "hospitals": 3, "skipped": []},
        "config": metrics["config"] | {"describe": {"grid": [6.0, 12.0, 18.0, 24.0, 36.0]}},
        "table": {
            **{"rows": 120, "min_cell": 5, "by": "sex", "groups": ["F", "M"], "sizes": [60, 60]},
            **{"variables": variables, "withheld": {"survival": "few events"}},
            **{"noise": None, "time": "months (30 days)"},
            "survival": {
                **{"times": [12.0, 24.0], "curves": [curve] * 3},
                "log_rank": {"chi2": 4.0, "df": 1, "p_value": 0.25},
            },
        },
        "crypto": {
            **{"scheme": "paillier", "key_fingerprint": "0123456789abcdef" * 4},
            **{"key_bits": 2048, "ciphertexts_per_update": 9, "bytes_per_update": 5000},
            **{"ticket_bytes_per_update": 1400, "masked_set": 0},
        },
        **{"bytes_sent": 40000, "seconds": 2.5, "privacy": None},
    }


EXAMPLES = {
    "normal": make_metrics(),
    "newton": make_newton(),
    "private": make_private(),
    "classes": make_classes(),
    "deployed": make_deployed(),
    "sealed": make_sealed(),
    "table": make_table(),
    "capc": make_capc(),
    "many labels": make_many_labels(),
    "deployed capc": make_deployed_capc(),
    "capc in plain": make_capc(encrypted=False, epsilon=None),
    "one round": make_metrics(hospitals=30, rounds=1),
}
