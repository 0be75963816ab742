"""A node of a simulated run: its share of the data, and the run's terms as its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from flwr.app import Context

from fl_he.clients.hospital import HospitalData
from fl_he.clients.node.node import SimulatedNode
from fl_he.config import Config
from fl_he.crypto.paillier.packing import Packing
from fl_he.experiment.privacy_statement import privacy_of
from fl_he.experiment.run_figures import packing_of
from fl_he.learning.privacy.gradients import GaussianPrivacy
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

    @property
    def packing(self) -> Packing:
        """See Node."""
        return packing_of(self.config.crypto)

    @property
    def min_contributors(self) -> int:
        """See Node."""
        return self.config.min_contributors

    @property
    def key_bits(self) -> int:
        """See Node."""
        return self.config.crypto.key_bits

    @property
    def privacy(self) -> GaussianPrivacy | None:
        """See Node."""
        return privacy_of(self.config)

    @cached_property
    def hospital(self) -> HospitalData:
        """See Node."""
        from fl_he.experiment.data import simulated_data  # noqa: PLC0415 - lazy: only simulations need it

        data, number = simulated_data(self.config), self.partition
        folder = Path(self.config.output_dir or f"outputs/run-{self.context.run_id}")
        model_path = folder / "hospitals" / self.name / "model.json"
        return self._hospital(data.hospitals[number], model_path, lambda: data.test_share(number))
