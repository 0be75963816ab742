"""Figures and settings as text, alike in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rich import filesize

from fl_he.config.groups import Scheme
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import SURVIVAL

#: What stands for a figure that nobody knows.
UNKNOWN = "n/a"
_LARGE, _LEAST_P = 1e6, 0.001
#: Names of the families' models in journals.
_KINDS = {
    "logistic": "logistic regression",
    "softmax": "multinomial logistic regression",
    "gaussian": "linear regression",
    "poisson": "Poisson regression",
    "negative_binomial": "negative binomial regression",
    "gamma": "gamma regression",
    **dict.fromkeys(SURVIVAL, "Cox regression"),
}
#: Files that a title names.
_FILES = 3


def run_name(metrics: Metrics) -> str:
    """Return data set, hospitals, topology and rounds of a run on one line."""
    config, rounds = metrics["config"], len(metrics["rounds"])
    return (
        f"{data_name(config)}, {count(config['hospitals'])} hospitals, "
        f"topology {config['topology']}, {rounds} {'round' if rounds == 1 else 'rounds'}"
    )


def data_name(config: Mapping[str, Any]) -> str:
    """Return the name of a data set, or of the files of a table of one's own."""
    data = config.get("data") or {}
    if data.get("name") == "csv" and data.get("path"):
        files = data["path"] if isinstance(data["path"], list) else [data["path"]]
        return ", ".join(Path(name).name for name in files[:_FILES]) + ", ..." * (
            len(files) > _FILES
        )
    return str(data.get("name", "CaPC"))


def family(metrics: Metrics) -> str:
    """Return the family of a run's models; earlier releases had those of classes alone."""
    return str(metrics.get("family", "softmax" if metrics.get("classes") else "logistic"))


def model_title(metrics: Metrics, subject: str) -> str:
    """Name the kind of a run's models as a journal does, and its subject: "of died = yes"."""
    config, kind = metrics["config"], _KINDS.get(family(metrics), "regression")
    said = f"{kind} {subject}"
    if config.get("penalty") == "firth":
        said += " with Firth's penalty"
    elif config.get("C") is not None:
        said = f"penalised {said}"
    said += " under differential privacy" if metrics.get("privacy") else ""
    return f"{said[:1].upper()}{said[1:]}"


def of_number(metrics: Metrics) -> bool:
    """Return whether the outcome is a number."""
    return family(metrics) not in ("logistic", "softmax")


def of_time(metrics: Metrics) -> bool:
    """Return whether the outcome is a time to an event."""
    return family(metrics) in SURVIVAL


def optimizer_name(metrics: Metrics) -> str:
    """Return the optimizer that a run used; earlier releases have it in the configuration alone."""
    chosen = metrics.get("optimizer") or metrics["config"].get("optimizer") or {}
    return str(chosen.get("name", "gd"))


def is_masked(metrics: Metrics) -> bool:
    """Return whether updates were masked; earlier releases had Paillier's scheme alone."""
    return bool(metrics["crypto"].get("scheme") == Scheme.masks)


def encryption(metrics: Metrics) -> str:
    """Name the encryption of updates in a training run."""
    return "masks" if is_masked(metrics) else f"{metrics['crypto']['key_bits']}-bit Paillier"


def others_of(masking: int, kind: str = "hospitals") -> str:
    """Say who must work with company X to learn one update that is masked pairwise.

    Parameters
    ----------
    masking : int
        Number of hospitals that mask for each other.
    kind : str
        Names them.
    """
    return f"{masking - 1} of the {masking} {kind}"


def known(entries: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """Return the values of a key that are known."""
    return [entry[key] for entry in entries if entry.get(key) is not None]


def mean(values: list[float]) -> float | None:
    """Return the mean; ``None`` of no values."""
    return fmean(values) if values else None


def total(values: list[float]) -> float | None:
    """Return the sum; ``None`` of no values."""
    return math.fsum(values) if values else None


def count(value: float | None) -> str:
    """Write a whole number."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def incomplete_rows(metrics: Metrics) -> str:
    """Return how many of the tables' rows nobody uses, as cells are missing; empty if none."""
    rows = metrics.get("rows") or {"left_out": 0}
    if not rows["left_out"]:
        return ""
    return f"{count(rows['left_out'])} of {count(rows['left_out'] + rows['kept'])}"


def incomplete_note(metrics: Metrics) -> list[str]:
    """Return the same in a sentence."""
    found = incomplete_rows(metrics)
    return [f"{found} rows are left out, as cells are missing"] * bool(found)


def size(value: float | None) -> str:
    """Write a number of bytes in kB, MB or GB (powers of 1,000)."""
    return UNKNOWN if value is None else filesize.decimal(round(value))


def decimal(value: float | None, digits: int = 3) -> str:
    """Write a figure of quality."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def sentence(clause: str) -> str:
    """Return a clause with a capital and a full stop."""
    return f"{clause[:1].upper()}{clause[1:]}."


def short(value: float | None) -> str:
    """Write an estimate."""
    return UNKNOWN if value is None else f"{value:.3g}"


def places(values: Iterable[float], least: int, most: int) -> int:
    """Return the digits after the point that show three digits of the smallest value.

    A value of which the most digits show next to nothing does not count.

    Examples
    --------
    >>> places([0.17, 0.0071], 2, 6), places([12.0], 2, 6), places([0.5, 1e-9], 2, 6)
    (5, 2, 3)
    """
    shown = (abs(value) for value in values if abs(value) >= 10.0 ** (1 - most))
    smallest = min(shown, default=1.0)
    return min(max(2 - math.floor(math.log10(smallest)), least), most)


def fixed(value: float | None, digits: int) -> str:
    """Write a figure with this many digits after the point, with an exponent above a million."""
    if value is None:
        return UNKNOWN
    if abs(value) >= _LARGE:
        return f"{value:.2e}"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def p_value(value: float | None) -> str:
    """Write a p value."""
    if value is None:
        return UNKNOWN
    return "<0.001" if value < _LEAST_P else f"{value:.3f}"


def features_of(metrics: Metrics) -> str:
    """Return the features that the model's own coefficients are of."""
    return (
        "the tables' features" if metrics["config"].get("scaling") == "none" else "scaled features"
    )


def seconds(value: float | None, digits: int = 4) -> str:
    """Write a duration."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def setting_text(value: Any) -> str:
    """Write a value as on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(setting_text, value))}]"
    return str(value)
