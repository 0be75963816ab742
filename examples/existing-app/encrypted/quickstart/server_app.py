"""quickstart: A Flower / scikit-learn app."""

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from fl_he import SequentialPaillier
from quickstart.task import get_arrays, get_model

# Create ServerApp
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation."""
    arrays = get_arrays(get_model(context.run_config["learning-rate"]))
    strategy = SequentialPaillier(FedAvg(min_available_nodes=3))
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        num_rounds=context.run_config["num-server-rounds"],
    )
    final = {name: array.numpy() for name, array in result.arrays.items()}
    np.savez(context.run_config["save-to"], **final)
