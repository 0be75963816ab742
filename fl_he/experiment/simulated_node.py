"""A node of a simulated run: its share of the data, and the run's terms as its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from flwr.app import Context

from fl_he.clients.node.node import KeyHolderPolicy, SimulatedNode
from fl_he.config import Config
from fl_he.experiment.data import SimulatedData, simulated_data
from fl_he.experiment.privacy_statement import privacy_of
from fl_he.experiment.run_figures import packing_of
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset
from fl_he.wire.records import ProtocolError


class RunNode(SimulatedNode):
    """A simulated node that has the run's configuration.

    Parameters
    ----------
    context : Context
    config : callable
        Returns the configuration of the run that the node takes part in.
    """

    def __init__(self, context: Context, config: Callable[[Context], Config]) -> None:
        super().__init__(context)
        self._config = config

    @cached_property
    def config(self) -> Config:
        """The run's configuration; ProtocolError if it is not for so many nodes."""
        _, nodes = self.numbers
        config = self._config(self.context)
        needed = config.hospitals + 1
        if nodes != needed:
            raise ProtocolError(
                f"hospitals={config.hospitals} needs {needed} simulated SuperNodes (one more for "
                f"company X), got {nodes}: start it with `flwr run . --federation-config "
                f"'num-supernodes={needed}'`"
            )
        return config

    @cached_property
    def policy(self) -> KeyHolderPolicy:
        """See Node."""
        crypto = self.config.crypto
        return KeyHolderPolicy(self.config.min_contributors, packing_of(crypto), crypto.key_bits)

    @cached_property
    def privacy(self) -> GaussianPrivacy | None:
        """See Node."""
        return privacy_of(self.config)

    def table(self) -> tuple[Dataset, Path | None]:
        """See Node."""
        folder = Path(self.config.output_dir or f"outputs/run-{self.context.run_id}")
        model_path = folder / "hospitals" / self.name / "model.json"
        return self._data.hospitals[self.numbers[0]], model_path

    def held_out(self) -> Dataset | None:
        """See Node."""
        return self._data.test_share(self.numbers[0])

    @property
    def _data(self) -> SimulatedData:
        return simulated_data(self.config)
