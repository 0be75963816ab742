"""The coordinator: it averages weights that it cannot read."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl_he import SequentialPaillier
from pytorch_cnn.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and save the final network."""
    config = context.run_config
    torch.manual_seed(10)
    strategy = SequentialPaillier(
        FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)
    )
    result = strategy.start(
        grid, ArrayRecord(Net().state_dict()), num_rounds=int(config["num-server-rounds"])
    )
    torch.save(result.arrays.to_torch_state_dict(), str(config["save-to"]))
    for server_round, metrics in result.evaluate_metrics_clientapp.items():
        print(f"round {server_round}: accuracy {metrics['accuracy']:.3f}")
