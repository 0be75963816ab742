"""Metrics of runs that nobody ran, and tables as a terminal shows them."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

FIGURES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")


def make_metrics(hospitals: int = 3, rounds: int = 4) -> dict[str, Any]:
    def model(seed: int) -> dict[str, Any]:
        return {
            "examples": 100 + seed,
            **{name: (seed + index + 1) / 100 for index, name in enumerate(FIGURES)},
        }

    parameters = {"coefficients": [0.5, -1.25], "intercept": 0.125}
    return {
        "version": 1,
        "fl_he": "0.1.0",
        "config": {"data": {"name": "breast_cancer"}, "hospitals": hospitals, "topology": "fold"},
        "local": [{"hospital": f"hospital-{n}", **model(n)} for n in range(1, hospitals + 1)],
        "federated": {**model(80), **parameters},
        "pooled": {**model(90), **parameters},
        "rounds": [
            {
                "round": n,
                "loss": 0.7 / n,
                "accuracy": 1 - 0.5 / n,
                "test_loss": 0.8 / n,
                "test_accuracy": 1 - 0.6 / n,
                "contributors": hospitals,
                "seconds": 0.5,
                "bytes_sent": 1000 * n,
                "encrypt_seconds": 0.01 * n,
                "add_seconds": 0.001 * n,
                "decrypt_seconds": 0.02 * n,
            }
            for n in range(1, rounds + 1)
        ],
        "crypto": {
            "key_bits": 2048,
            "key_fingerprint": "0123456789abcdef" * 4,
            "slots_per_ciphertext": 35,
            "ciphertexts_per_update": 1,
            "bytes_per_update": 537,
        },
        "start_seconds": 3.25,
        "seconds": 12.5,
    }


def make_private() -> dict[str, Any]:
    """Metrics of a run with differential privacy."""
    metrics = make_metrics()
    for entry in metrics["rounds"]:
        entry.update(loss=None, accuracy=None)
    return metrics | {
        "privacy": {
            "mechanism": "noise",
            "epsilon": 1.25,
            "epsilon_towards_a_hospital": 1.5,
            "epsilon_of_one_update": 2.75,
            "delta": 1e-5,
            "neighbours": "one row is replaced by any other",
            "clip": 0.5,
            "rounds": 4,
            "contributors_counted": 3,
            "noise_per_hospital": 7.25,
            "noise_per_round": 12.5574,
            "scaling": 0.25,
            "noise_of_scaling": 6.5,
            "not_covered": ["patients with several rows", "[bold]other[/] uses"],
            "without_noise": dict.fromkeys(FIGURES, 0.875),
        },
        "class_shares": dict.fromkeys(FIGURES, 0.625),
    }


def make_deployed() -> dict[str, Any]:
    """Metrics of a deployment: nobody there holds test data."""
    metrics = make_metrics()
    metrics["local"], metrics["pooled"] = [], None
    metrics["federated"].update(dict.fromkeys(FIGURES))
    for entry in metrics["rounds"]:
        entry.update(test_loss=None, test_accuracy=None)
    return metrics


def text(table: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table, crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def row(lines: list[str], start: str) -> list[str]:
    (line,) = [line for line in lines if line.strip("│ ").startswith(start)]
    return [cell.strip() for cell in line.strip("│ ").split("│")][1:]
