"""Differences between the hospitals, on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_he.report.blocks import Row, Sheet
from fl_he.report.figures import count, fixed, p_value, places

#: Clusters below which robust standard errors are too small: Cameron and Miller 2015, section VI.
_FEW_CLUSTERS = 30


def site_sheets(inference: Mapping[str, Any]) -> list[Sheet]:
    """Return tables of heterogeneity and of cluster-robust standard errors, as far as known."""
    sites, sheets = inference.get("sites"), list[Sheet]()
    if not sites:
        return sheets
    if found := sites["heterogeneity"]:
        digits = places([row["standard_error"] for row in found], 2, 6)
        rows = [
            (
                row["name"],
                *(fixed(row[key], digits) for key in ("estimate", "standard_error")),
                *(fixed(row["q"], 2), p_value(row["p_value"]), f"{row['i2']:.0%}"),
            )
            for row in found
        ]
        title = f"Own estimates of {count(sites['fits'])} hospitals"
        columns = ("feature", "weighted mean", "std. error", "Cochran's Q", "p", "I2")
        sheets.append(Sheet(title, columns, list(map(Row, rows))))
    if found := sites["robust"]:
        digits = places([row["standard_error"] for row in found], 2, 6)
        errors = [
            (
                row["name"],
                fixed(row["standard_error"], digits),
                " to ".join(fixed(row[key], digits) for key in ("lower", "upper")),
                *(fixed(row["t"], 2), p_value(row["p_value"])),
            )
            for row in found
        ]
        title = f"Standard errors robust to {count(sites['clusters'])} clusters, the hospitals"
        heads = ("feature", "std. error", f"{inference['level']:.0%} interval", "t", "p")
        sheets.append(Sheet(title, heads, list(map(Row, errors))))
    return sheets


def site_notes(inference: Mapping[str, Any]) -> list[str]:
    """Say which figures of the hospitals' differences are withheld, and what to beware of."""
    if not (sites := inference.get("sites")):
        return []
    notes = []
    if sites["withheld"]:
        notes.append(f"No heterogeneity of the hospitals: {sites['withheld']}.")
    if sites["robust_withheld"]:
        notes.append(f"No cluster-robust standard errors: {sites['robust_withheld']}.")
    elif sites["clusters"] < _FEW_CLUSTERS:
        notes.append(
            f"Robust standard errors of fewer than {_FEW_CLUSTERS} hospitals tend to be too small, "
            "by Student's distribution too (Cameron and Miller 2015)."
        )
    return notes
