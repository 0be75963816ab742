"""The coordinator: it averages weights that it cannot read."""

from __future__ import annotations

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl_he import EncryptedSum
from large_model.task import new_model, record, trained_names

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and save the final arrays."""
    config = context.run_config
    strategy = EncryptedSum(
        FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3),
        scheme=str(config["scheme"]),
        topology=str(config["topology"]),
    )
    model = new_model(int(config["hidden-units"]), int(config["rank"]))
    arrays = record(model, trained_names(str(config["train"])))
    result = strategy.start(grid, arrays, num_rounds=int(config["num-server-rounds"]))
    saved = {name: array.numpy() for name, array in result.arrays.items()}
    np.savez(str(config["save-to"]), **saved)
    print(f"{sum(values.size for values in saved.values()):,} parameters")
    for server_round, metrics in result.evaluate_metrics_clientapp.items():
        print(f"round {server_round}: accuracy {metrics['accuracy']:.3f}")
