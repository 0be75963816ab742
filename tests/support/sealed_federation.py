"""A federation of enrolled nodes in one process, for the tests of the sealed chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from identities import make
from local_grid import LocalGrid
from numpy.typing import NDArray
from session_keys import session_key

from fl_he.clients.encryption import EncryptionMod, node_packing
from fl_he.clients.hospital import HospitalData, add_hospital, zero_model
from fl_he.clients.key_holder import with_key_holder
from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.clients.totals.app import SealedChain
from fl_he.clients.totals.model import ModelKeeper
from fl_he.clients.totals.sessions import Sessions
from fl_he.clients.totals.state import ChainState, chain_state
from fl_he.clients.totals.training import TrainingLearner
from fl_he.config.groups import AUTO, CONTINUE
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.tables.data import Dataset
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.roll_call import call_roll
from fl_he.strategies.sealed import router
from fl_he.strategies.sealed.progress import SealedProgress, SealedSum
from fl_he.wire.learning_terms import TrainingTerms

COMPANY = "company-x"
FEATURES = ("age", "size", "score")
RATE = 0.5


def dataset(name: str, rows: int) -> Dataset:
    """Return a hospital's patients, the same each time."""
    random = np.random.default_rng(sum(name.encode()))
    features = random.normal(size=(rows, len(FEATURES)))
    labels = (features @ [1.0, -2.0, 0.5] + random.normal(size=rows) > 0).astype(np.float64)
    return Dataset(features, labels, FEATURES)


def terms(**changes: Any) -> TrainingTerms:
    """Return the training task of these tests' nodes: gradient descent."""
    usual: dict[str, Any] = {"features": len(FEATURES), "classes": 2, "optimizer": "gd", "lr": RATE}
    return TrainingTerms(**usual | changes)


def pooled_descent(
    hospitals: Iterable[Dataset], rounds: int, C: float | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return plain gradient descent on all patients, by numpy alone."""
    parts = list(hospitals)
    return descent_through([parts] * rounds, C)


def descent_through(
    rounds: Iterable[Iterable[Dataset]], C: float | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return the result of plain gradient descent with separate patients in each round."""
    w, b = np.zeros(len(FEATURES)), 0.0
    for parts in rounds:
        listed = list(parts)
        X = np.concatenate([part.features for part in listed])
        y = np.concatenate([part.labels for part in listed])
        error = 1.0 / (1.0 + np.exp(-(X @ w + b))) - y
        penalty = 0.0 if C is None else w / (C * len(y))
        w, b = w - RATE * (X.T @ error / len(y) + penalty), b - RATE * float(error.mean())
    return w, b


class Federation:
    """Hospitals and company X with identities, a manifest and key files in a folder.

    Parameters
    ----------
    folder : Path
        Where the nodes' files go.
    hospitals : mapping of str to int
        Names and numbers of patients.
    grid : type
        What the nodes are connected by.
    alone : bool
        Whether hospitals allow totals that single them out, so that any of them may leave.

    Attributes
    ----------
    scheme : str
        Choice of the chains of `chain` and `run`.
    """

    scheme = AUTO

    def __init__(
        self,
        folder: Path,
        hospitals: Mapping[str, int],
        grid: type[LocalGrid] = LocalGrid,
        *,
        alone: bool = True,
    ) -> None:
        self.folder, self.alone = folder, alone
        self.data = {name: dataset(name, rows) for name, rows in hospitals.items()}
        self.identities: dict[str, Identity] = {name: make(name) for name in hospitals}
        self.identities[COMPANY] = make(COMPANY, "key-holder")
        self.manifest = Manifest(tuple(identity.public for identity in self.identities.values()))
        (folder / "federation.json").write_text(self.manifest.to_json())
        for name, identity in self.identities.items():
            identity.save(folder / f"{name}.json")
        self.packing = Packing(max_contributors=len(hospitals))
        self.grid = grid(self.app(), [self.node(name) for name in self.identities])

    def node(self, name: str, **settings: str | int | bool) -> UserConfig:
        """Return a node's configuration."""
        role: UserConfig = (
            {"role": "key-holder", "key-bits": 1024}
            if name == COMPANY
            else {
                "role": "hospital",
                "reply-seconds": 0,
                **({"alone": "allow"} if self.alone else {}),
            }
        )
        return {
            **role,
            "name": name,
            "federation": str(self.folder / "federation.json"),
            "identity": str(self.folder / f"{name}.json"),
            **settings,
        }

    def another_run(self) -> Federation:
        """Return the same nodes, with the same disks, in another Flower run."""
        other, nodes = copy(self), [self.node(name) for name in self.identities]
        other.grid = LocalGrid(self.app(), nodes, run_id=self.grid.run_id + 1)
        return other

    @property
    def key(self) -> PrivateKey:
        """The key of the one session that has begun and is not over, as company X has it."""
        return session_key(self.folder)

    def model(self, name: str) -> Path:
        """Return where a hospital saves its model."""
        return self.folder / "models" / f"{name}.json"

    def move_models(self) -> None:
        """Make room for the models of another session, as operators do."""
        for path in (self.folder / "models").glob("*.json"):
            path.unlink()

    def app(self) -> ClientApp:
        """Return the app of all nodes."""

        def data(context: Context) -> HospitalData:
            name = str(context.node_config["name"])
            return HospitalData(self.data[name], self.model(name))

        def policy(context: Context) -> KeyHolderPolicy:
            assert context.node_config["name"] in self.identities
            return KeyHolderPolicy(min_contributors=3, key_bits=1024)

        mod = EncryptionMod()
        app = add_hospital(ClientApp(mods=[mod]), data)
        app = with_key_holder(app, policy, lambda _: FEATURES)
        keeper = ModelKeeper(
            TrainingLearner(), lambda context: zero_model(data(context).dataset), node_packing
        )
        return NodeApp.of(app, SealedChain(keeper, policy, mod))

    def context(self, name: str) -> Context:
        """Return a node's context."""
        return self.grid.contexts[self.node_id(name)]

    def state(self, name: str) -> ChainState:
        """Return how far a hospital is, by its own disk."""
        node = DeployedNode(self.context(name))
        with chain_state(node, Sessions(node).session) as state:
            return state

    def node_id(self, name: str) -> int:
        """Return the id under which the grid knows a node."""
        return next(
            node_id
            for node_id, context in self.grid.contexts.items()
            if context.node_config["name"] == name
        )

    def chain(
        self,
        C: float | None = None,
        hop_timeout: float = 10.0,
        *,
        hospitals: int | None = None,
        progress: SealedProgress | None = None,
        on_summed: Callable[[SealedProgress], None] = lambda _: None,
        on_dropout: str = CONTINUE,
    ) -> router.SealedChain:
        """Return the coordinator, before company X and the hospitals have met."""
        waiting = Waiting(hop_timeout=hop_timeout, node_timeout=0.5, on_dropout=on_dropout)
        progress = progress or SealedProgress()
        return router.SealedChain(
            call_roll(self.grid, waiting, hospitals or len(self.data), progress.session),
            terms(C=C).to_config(),
            progress,
            scheme=self.scheme,
            on_summed=on_summed,
        )

    def run(
        self,
        rounds: int,
        after_round: Callable[[SealedSum], None] = lambda _: None,
        C: float | None = None,
        hop_timeout: float = 10.0,
        on_dropout: str = CONTINUE,
    ) -> list[SealedSum]:
        """Train, have every hospital save its model, and return the rounds."""
        chain, done = self.chain(C, hop_timeout, on_dropout=on_dropout), []
        chain.begin()
        for _ in range(rounds):
            done.append(chain.run_round())
            after_round(done[-1])
        chain.finish()
        return done
