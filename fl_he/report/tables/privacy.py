"""Privacy promise of a run to its patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fl_he.report.figures import known
from fl_he.run_files.metrics import Metrics


def privacy_table(metrics: Metrics) -> Table | None:
    """Return the promise of a run with differential privacy, ``None`` for one without."""
    privacy = metrics.get("privacy")
    if privacy is None:
        return None
    table = Table(title="What the patients are promised", show_header=False)
    table.add_column(overflow="fold", min_width=12)
    table.add_column(overflow="fold")
    for name, value in privacy_facts(metrics).items():
        table.add_row(name, Text(value))
    return table


def privacy_facts(metrics: Metrics) -> dict[str, str]:
    """Write the promise of a run with differential privacy, point by point.

    Parameters
    ----------
    metrics : mapping
        Of a run with ``privacy``.
    """
    privacy = metrics["privacy"]
    return {
        "epsilon": f"{privacy['epsilon']:.4g} for all {privacy['rounds']} rounds together"
        f"{' and the scaling' if privacy['scaling'] else ''}, at delta {privacy['delta']:g}",
        "towards": "everybody outside the hospitals, company X and the coordinator included",
        **with_less_noise(privacy),
        "neighbours": privacy["neighbours"],
        "clipping": f"one patient's gradient has a norm of at most {privacy['clip']:g}"
        f"{_bounds(metrics)}",
        "noise per round": _noise(metrics),
        **_scaling(privacy),
        "not covered": "\n".join(privacy["not_covered"]),
    }


def with_less_noise(privacy: Mapping[str, Any]) -> dict[str, str]:
    """Write the promise towards those from whom less noise hides a patient."""
    towards = privacy["epsilon_towards_a_hospital"]
    return {
        "towards a hospital": "no promise"
        if towards is None
        else f"epsilon {towards:.4g}: it knows its own noise",
        "one update alone": f"epsilon {privacy['epsilon_of_one_update']:.4g}, if company X and the "
        "coordinator open it together",
    }


def _bounds(metrics: Metrics) -> str:
    bounds = metrics["config"].get("outcome_bounds")
    return "; an outcome beyond {:g} to {:g} counts as the bound".format(*bounds) if bounds else ""


def _noise(metrics: Metrics) -> str:
    """Say how much noise is in a total, and how much of it is counted."""
    privacy, took_part = metrics["privacy"], metrics["rounds"][-1]["contributors"]
    counted, share = privacy["contributors_counted"], privacy["noise_per_hospital"]
    counts = {*known(metrics["rounds"], "contributors")}
    total = privacy.get("noise_in_last_total")
    if total is None or counts == {counted}:
        return (
            f"standard deviation {privacy['noise_per_round']:.4g} is counted on each sum, "
            f"{share:.4g} from each of {counted} hospitals"
        )
    each = "each" if len(counts) == 1 else "the last"
    said = (
        f"standard deviation {total:.4g} on {each} sum, {share:.4g} from each of {took_part} "
        f"hospitals; epsilon counts {privacy['noise_per_round']:.4g}, the noise of {counted}"
    )
    fewest = min(counts)
    if fewest > counted:
        said += (
            f". min_contributors={fewest} would count the noise of {fewest}, so each would add "
            "less for the same epsilon, and no total would be of fewer hospitals"
        )
    return said


def _scaling(privacy: Mapping[str, Any]) -> dict[str, str]:
    if not privacy["scaling"]:
        return {}
    return {
        "scaling": f"{privacy['scaling']:.0%} of the budget: standard deviation "
        f"{privacy['noise_of_scaling']:.4g} is counted on each sum of values that their ranges "
        "make -1 to 1, and of their squares"
    }
