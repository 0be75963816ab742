"""The coordinator: it averages weights that it cannot read."""

from __future__ import annotations

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl_he import SequentialPaillier
from sklearn_mlp.task import new_model, weights

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and save the final model."""
    config = context.run_config
    strategy = SequentialPaillier(
        FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3),
        topology=str(config["topology"]),
    )
    result = strategy.start(
        grid,
        weights(new_model(int(config["hidden-units"]))),
        num_rounds=int(config["num-server-rounds"]),
    )
    arrays = {name: array.numpy() for name, array in result.arrays.items()}
    np.savez(str(config["save-to"]), **arrays)
    for server_round, metrics in result.evaluate_metrics_clientapp.items():
        print(f"round {server_round}: accuracy {metrics['accuracy']:.3f}")
