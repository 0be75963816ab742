"""The ServerApp: from a configuration to a strategy, a trained model and the run's files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from fl_he import __version__, metrics_file, report
from fl_he.config_schema import Config
from fl_he.crypto.packing import Packing
from fl_he.learning import logistic
from fl_he.learning.baselines import figures, fit_alone
from fl_he.learning.data import Dataset
from fl_he.learning.model import LogisticModel
from fl_he.messages import ACCURACY, LOSS, ProtocolError, model_arrays, read_model_arrays
from fl_he.simulated_data import SimulatedData, simulated_data
from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.strategies.sequential_paillier import EncryptedSum, SequentialPaillier

_logger = logging.getLogger(__name__)

OnRound = Callable[[Mapping[str, Any]], None]


def train(
    grid: Grid, config: Config, folder: Path, on_round: OnRound = lambda _: None
) -> dict[str, Any]:
    """Train one model over the hospitals of the grid and write the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
    folder : Path
        Where ``metrics.json``, ``model.json`` and ``comparison.png`` go.
    on_round : callable
        Called after each round with its entry of ``rounds``.

    Returns
    -------
    dict
        What ``metrics.json`` holds; the README documents it.

    Raises
    ------
    ProtocolError, CryptoError, DataError
        Whenever something is refused; nothing is written then but what hospitals saved.
    """
    start = perf_counter()
    data = simulated_data(config)
    strategy = SequentialPaillier(
        GradientDescent(config.optimizer.lr, config.hospitals, config.C),
        topology=config.topology,
        segments=config.segments,
        packing=_packing(config),
        min_contributors=config.min_contributors,
        hop_timeout=config.hop_timeout,
    )
    rounds: list[dict[str, Any]] = []

    def after_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:
            return None
        entry = _round_entry(strategy.sums[-1], data.test, *read_model_arrays(arrays))
        rounds.append(entry)
        on_round(entry)
        return None

    if not strategy.call_roll(grid).simulated:
        raise ProtocolError(
            "this ServerApp compares with data that only a simulation has, and a node is deployed"
        )
    features = len(data.train.feature_names)
    result = strategy.start(
        grid,
        initial_arrays=model_arrays(np.zeros(features), 0.0),
        num_rounds=config.rounds,
        evaluate_fn=after_round,
    )
    strategy.finish(result.arrays)
    coefficients, intercept = read_model_arrays(result.arrays)
    metrics = {
        "version": metrics_file.VERSION,
        "fl_he": __version__,
        "config": asdict(config),
        **_comparison(config, data, strategy, coefficients, intercept),
        "rounds": rounds,
        "crypto": _crypto(strategy),
        "seconds": perf_counter() - start,
    }
    model = LogisticModel(
        feature_names=data.train.feature_names,
        mean=data.scaling.mean,
        scale=data.scaling.scale,
        coefficients=coefficients,
        intercept=intercept,
    )
    report.write_run(folder, metrics, model.to_json())
    return metrics


def _packing(config: Config) -> Packing:
    crypto = config.crypto
    return Packing(crypto.fraction_bits, crypto.integer_bits, crypto.max_contributors)


def _round_entry(
    total: EncryptedSum, test: Dataset, coefficients: NDArray[np.float64], intercept: float
) -> dict[str, Any]:
    model = coefficients, intercept
    return {
        "round": total.round,
        "loss": total.metrics[LOSS],
        "accuracy": total.metrics[ACCURACY],
        "test_loss": logistic.log_loss(test.features, test.labels, *model),
        "test_accuracy": logistic.accuracy(test.features, test.labels, *model),
        "contributors": total.contributors,
        "seconds": total.seconds,
        "bytes_sent": total.bytes_sent,
        "encrypt_seconds": total.encrypt_seconds,
        "add_seconds": total.add_seconds,
        "decrypt_seconds": total.decrypt_seconds,
    }


def _comparison(
    config: Config,
    data: SimulatedData,
    strategy: SequentialPaillier,
    coefficients: NDArray[np.float64],
    intercept: float,
) -> dict[str, Any]:
    local = [fit_alone(hospital, config.C) for hospital in data.hospitals]
    pooled = fit_alone(data.train, config.C)
    federated = coefficients, intercept
    return {
        "local": [
            {
                "hospital": f"hospital-{number}",
                "examples": hospital.examples,
                **_figures(model, data.test),
            }
            for number, (hospital, model) in enumerate(
                zip(data.hospitals, local, strict=True), start=1
            )
        ],
        "federated": {
            "examples": round(strategy.sums[-1].examples),
            **_figures(federated, data.test),
            **_parameters(federated),
        },
        "pooled": {
            "examples": data.train.examples,
            **_figures(pooled, data.test),
            **_parameters(pooled),
        },
    }


def _figures(model: tuple[NDArray[np.float64], float], test: Dataset) -> dict[str, float]:
    return asdict(figures(logistic.probabilities(test.features, *model), test.labels))


def _parameters(model: tuple[NDArray[np.float64], float]) -> dict[str, Any]:
    return {"coefficients": model[0].tolist(), "intercept": model[1]}


def _crypto(strategy: SequentialPaillier) -> dict[str, Any]:
    public_key, last = strategy.roster.public_key, strategy.sums[-1]
    return {
        "key_bits": public_key.key_bits,
        "key_fingerprint": public_key.fingerprint,
        "slots_per_ciphertext": strategy.packing.slots_per_ciphertext(public_key.key_bits),
        "ciphertexts_per_update": last.ciphertexts,
        "bytes_per_update": last.update_bytes,
    }


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration names: ``flwr run``."""
    from fl_he.config import compose  # noqa: PLC0415 - only this entry point composes

    config = compose(str(context.run_config["config-name"]), str(context.run_config["overrides"]))
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}").resolve()
    metrics = train(grid, config, folder, _log_round)
    federated = metrics["federated"]
    _logger.warning(
        "test accuracy %.3f, log loss %.3f; the run's files are in %s; `fl-he report` prints them",
        federated["accuracy"],
        federated["log_loss"],
        folder,
    )


def _log_round(entry: Mapping[str, Any]) -> None:
    _logger.warning("round %(round)d: loss %(loss).4f, accuracy %(accuracy).3f", entry)
