"""Members of metrics.json of every kind of run, against those that the docs name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from deployed_federation import DeployedFederation
from deployed_nodes import deployed_nodes
from experiments import experiment
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app, server_app
from fl_he.capc import plain as capc_plain
from fl_he.config.capc import Backend
from fl_he.config.composition import compose
from fl_he.learning.describing.survival import Curve
from fl_he.run_files.metrics import read_metrics

DOCS = Path(__file__).parents[2] / "docs"
#: First cells of the table that says how `fit` differs by the model.
FITS = {"negative_binomial", "cox"}
SMALL = ("rounds=2", "data=breast_cancer")
PRIVATE = ("privacy=gaussian", "privacy.clip=0.5", "scaling=ranges", "ranges=breast_cancer")
CAPC = (
    *("experiment=capc_breast_cancer", "crypto.key_bits=1024", "capc.queries=12"),
    "capc.value_bits=28",
)


def documented(page: str, heading: str) -> dict[str, str]:
    """Return the keys of the tables between a heading and the next, with their meaning."""
    text = re.split(rf"^##+ {re.escape(heading)}$", (DOCS / page).read_text(), flags=re.MULTILINE)[
        1
    ]
    text = re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`.*?)(?: †)? \| (.*) \|$", text, flags=re.MULTILINE)
    return {key: meaning for keys, meaning in rows for key in words(keys)}


def words(meaning: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", meaning))


def listed(meaning: str) -> set[str]:
    """Return the names of a list in braces."""
    return set(re.findall(r"\w+", meaning.split("{", 1)[1].split("}", 1)[0]))


def simulated(folder: Path, *settings: str) -> dict[str, Any]:
    config = experiment(*settings, folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder)


def deployed(folder: Path) -> dict[str, Any]:
    config = experiment("rounds=1", folder=folder / "run")
    grid = LocalGrid(client_app.build(lambda _: config), deployed_nodes(folder))
    return server_app.train(grid, config, folder / "run")


def sealed(folder: Path, *settings: str) -> dict[str, Any]:
    federation = DeployedFederation(folder, {"north": 40, "south": 25, "east": 60})
    config = experiment("topology=chain", "sealed=true", *settings, folder=folder / "run")
    return server_app.train(federation.grid, config, folder / "run")


RUNS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "open": lambda folder: simulated(folder, *SMALL),
    "newton": lambda folder: simulated(folder, *SMALL, "optimizer=newton", "evaluate=true"),
    "without a test": lambda folder: simulated(folder, *SMALL, "test_size=0"),
    "private": lambda folder: simulated(folder, *SMALL, *PRIVATE),
    "deployed": deployed,
    "sealed": lambda folder: sealed(folder, "rounds=2"),
    "sealed, newton": lambda folder: sealed(folder, "rounds=2", "optimizer=newton"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_training_run_has_all_members_that_the_docs_name(tmp_path: Path, kind: str) -> None:
    metrics, named = RUNS[kind](tmp_path), documented("files.md", "metrics.json")
    assert "tested_on" in words(named["pooled"])
    assert set(metrics) == {*named, "tested_on"}
    for entry in metrics["rounds"]:
        assert set(entry) == listed(named["rounds"])
        assert set(documented("files.md", "rounds")) <= set(entry)
    assert set(metrics["crypto"]) == set(documented("files.md", "crypto"))
    figures = {"accuracy", "balanced_accuracy", "roc_auc", "log_loss"}
    assert {*figures, "examples", "coefficients", "intercept"} == set(metrics["federated"])
    for name in ("pooled", "local", "class_shares", "tested_on", "rows"):
        if kind in ("deployed", "sealed", "sealed, newton"):
            assert metrics[name] is None, name
    if kind.startswith("sealed"):
        assert metrics["diagnostics"] is metrics["inference"] is None
    else:
        members = {"constant", "aliased", "separation", "unique", "converged"}
        assert set(metrics["diagnostics"]) == members
        inferred = set(metrics["inference"])
        assert inferred == {
            *("level", "penalised", "withheld", "outcome", "reference", "events"),
            *("coefficients", "fit", "groups", "penalty", "penalty_shift", "profile"),
            *("ratio", "freedom", "sites", "site_intercepts", "overdispersion"),
            "proportional",
        }
        assert members == set(documented("files.md", "diagnostics"))
        assert inferred == set(documented("files.md", "inference")) - FITS
    if metrics["evaluation"] is not None:
        assert set(metrics["evaluation"]) == set(documented("files.md", "evaluation"))
    if kind == "private":
        assert set(metrics["privacy"]) == set(documented("files.md", "privacy"))
    else:
        assert metrics["privacy"] is None


@pytest.mark.parametrize("backend", list(Backend))
def test_a_run_of_capc_has_all_members_that_the_docs_name(tmp_path: Path, backend: Backend) -> None:
    config = compose("config", [*CAPC, f"capc.backend={backend}"])
    if backend is Backend.plain:
        capc_plain.run_plain(config, tmp_path)
    else:
        grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
        server_app.train(grid, config, tmp_path)
    metrics, named = read_metrics(tmp_path), documented("capc.md", "What a run leaves behind")
    assert set(named) <= set(metrics)
    for entry in metrics["querying"]:
        assert set(documented("capc.md", "Entries of `querying`")) == set(entry)
    for entry in metrics["steps"]:
        assert listed(named["steps"]) == set(entry)


def test_a_table_has_all_members_that_the_docs_name(tmp_path: Path) -> None:
    metrics = simulated(tmp_path, "experiment=table1", "data=breast_cancer", "describe.by=outcome")
    named = documented("table1.md", "What a table leaves behind")
    shared = {"version", "fl_he", "software", "ended", "simulated", "config"}
    assert set(metrics) == {*named, *shared}
    assert set(metrics["table"]) == words(named["table"])
    assert set(metrics["crypto"]) == words(named["crypto"])
    private = ("experiment=table1", "data=breast_cancer", "describe.columns=[outcome]")
    noisy = simulated(tmp_path, *private, "privacy=gaussian")["privacy"]
    assert set(noisy) == words(named["privacy"].partition("; see")[0])
    page = (DOCS / "table1.md").read_text()
    (variable,) = re.findall(r"`variables` is `\{(.*?)\}`", page, flags=re.DOTALL)
    (summary,) = re.findall(r"`summaries` are `\{(.*?)\}`", page, flags=re.DOTALL)
    (curve,) = re.findall(r"`curves`: `\{(.*?)\}`", page, flags=re.DOTALL)
    first = metrics["table"]["variables"][0]
    assert set(first) == set(re.findall(r"\w+", variable))
    assert set(first["summaries"][0]) == set(re.findall(r"\w+", summary))
    assert {field.name for field in fields(Curve)} == set(re.findall(r"\w+", curve))
