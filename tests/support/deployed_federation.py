"""A federation of this project's own app, with tables in files, in one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from sealed_federation import COMPANY, FEATURES, Federation

from fl_he import client_app
from fl_he.config.run import Config


def no_config(_: object) -> Config:
    raise AssertionError("a deployed node must not be asked for the run's configuration")


class DeployedFederation(Federation):
    """Enrolled nodes that read their own tables.

    Parameters
    ----------
    folder, hospitals
        See Federation.
    sealed : bool
        Whether the nodes take part in sealed chains only.
    alone : bool
        See Federation.
    """

    def __init__(
        self, folder: Path, hospitals: Mapping[str, int], *, sealed: bool = True, alone: bool = True
    ) -> None:
        self.sealed = sealed
        super().__init__(folder, hospitals, alone=alone)

    def app(self) -> ClientApp:
        for name in self.data:
            rows = zip(self.data[name].features, self.data[name].labels, strict=True)
            lines = [",".join([*map(repr, map(float, x)), "MB"[int(y == 0)]]) for x, y in rows]
            header = ",".join([*FEATURES, "diagnosis"])
            self.table(name).write_text("\n".join([header, *lines]))
        return client_app.build(no_config)

    def table(self, name: str) -> Path:
        """Return a hospital's file."""
        return self.folder / f"{name}.csv"

    def node(self, name: str, **settings: str | int | bool) -> UserConfig:
        if name == COMPANY:
            return super().node(name, sealed=self.sealed, **settings)
        own: dict[str, str | int | bool] = {
            "data": str(self.table(name)),
            "target": "diagnosis",
            "positive": "M",
            "model-path": str(self.model(name)),
            "sealed": self.sealed,
        }
        return super().node(name, **own, **settings)
