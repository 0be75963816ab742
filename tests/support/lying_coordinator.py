"""A coordinator that lies to deployed nodes whose manifest names study plans.

It keeps the chain of totals as an honest one does, so that each lie comes where it may help most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from deployed_nodes import HEADER, enrolled_nodes
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from numpy.typing import NDArray
from session_keys import session_key
from ticketed_sums import added, key_records, unchecked

from fl_he import client_app
from fl_he.config.run import Config
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.learning.optimizers import WITH_RATE
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptReply,
    DecryptRequest,
    Description,
    EncryptedReply,
    EncryptionRequest,
    Purpose,
)
from fl_he.wire.learning_terms import TrainingTerms
from fl_he.wire.planned_messages import Choice, is_planned
from fl_he.wire.sealed_messages import OpenNews
from fl_he.wire.study_plan import StudyPlan
from fl_he.wire.training_messages import ACTIONS

CLINICS, COMPANY = (1000, 1001, 1002), 1003
#: Each clinic's patients: `deployed_nodes` has too few to train on.
PATIENTS = (
    "1,2,sick\n3,-1,well\n2,1,well\n0,0,sick\n",
    "0,1,sick\n2,-2,well\n1,-1,sick\n3,2,well\n",
    "2,2,well\n-1,0,sick\n1,1,well\n0,-2,sick\n",
)


def clinics(folder: Path, *plans: StudyPlan, patient: str = "1,2,sick") -> list[UserConfig]:
    """Return nodes under the plans; the first patient of the first clinic is as given."""
    folder.mkdir(exist_ok=True)
    nodes = enrolled_nodes(folder, *plans)
    for node, rows in zip(nodes, PATIENTS, strict=False):
        Path(str(node["data"])).write_text(HEADER + rows.replace("1,2,sick", patient))
    return nodes


class LyingCoordinator:
    """Sends deployed nodes arbitrary messages; only the named changes differ from honest ones.

    Parameters
    ----------
    nodes : list of node configurations
    plan : StudyPlan
        Named in its messages, with the first optimizer, learning rate and C of its lists.
    run_id : int
        Of the SuperLink.

    Attributes
    ----------
    totals : list of bytes
        As company X has told them in the session.
    """

    def __init__(self, nodes: list[UserConfig], plan: StudyPlan, run_id: int = 7) -> None:
        self.plan, self.totals = plan, list[bytes]()
        self.grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=run_id)
        optimizer = plan.optimizers[0]
        rate = plan.lr[0] if optimizer in WITH_RATE else None
        self.choice = Choice(plan.digest, optimizer, rate, plan.C[0])
        self.config = self.terms().to_config()
        reply = self.send(COMPANY, DESCRIBE, RecordDict())
        described = Description.from_content(reply.content)
        self.session, self.packing = described.session, described.packing
        self.value_keys, self.run_key = described.value_keys, described.run_key
        self.public_key = PublicKey.from_json(described.public_key)

    def terms(self, **changes: Any) -> TrainingTerms:
        """Return the task that the plan and the choice from its lists say."""
        plan, declared = self.plan, self.plan.declared_ranges
        units: dict[str, Any] = {}
        if plan.scaling == "ranges" and declared is not None:
            mean, scale = declared.scaling.mean.tolist(), declared.scaling.scale.tolist()
            units = {"mean": tuple(mean), "scale": tuple(scale)}
        honest = TrainingTerms(
            features=len(plan.features),
            classes=plan.class_count,
            optimizer=self.choice.optimizer,
            lr=self.choice.lr or 1.0,
            C=self.choice.C,
            scaling="none" if plan.scaling == "none" else "federated",
            **units,
            balanced=plan.class_weights == "balanced",
            tolerance=plan.tolerance,
            max_step=plan.max_step,
            max_coefficient=plan.max_coefficient,
            firth=plan.penalty == "firth",
            profile=(0,) if plan.profile else (),
            sites=plan.sites,
        )
        return replace(honest, **changes)

    def send(self, node: int, action: str, content: RecordDict) -> Message:
        """Send a message as it is, but for the choice from the plan, and return the reply."""
        if is_planned(action) and Choice.HOME not in content:
            content = self.choice.add_to(content)
        if node in CLINICS and "public-key" in content.config_records.get("fl-he", {}):
            own = self.value_keys[f"clinic-{CLINICS.index(node) + 1}"]
            content = RecordDict({**key_records(own, self.run_key), **content})
        (sent,) = self.grid.push_messages([Message(content, node, action)])
        (reply,) = self.grid.pull_messages([sent])
        return reply

    def news(
        self,
        totals: Sequence[bytes] | None = None,
        config: ConfigRecord | None = None,
        session: str | None = None,
    ) -> RecordDict:
        """Return session, totals, by default all, and train config."""
        told = self.totals if totals is None else totals
        content = OpenNews(self.session if session is None else session, tuple(told)).to_content()
        content["config"] = ConfigRecord({**(self.config if config is None else config)})
        return content

    def request(self, round_: int, session: str | None = None, **more: Any) -> EncryptionRequest:
        """Return the occasion of a hospital's encrypted reply."""
        own = self.session if session is None else session
        return EncryptionRequest(self.public_key.to_json(), self.packing, own, round_, **more)

    def ask(
        self,
        node: int,
        round_: int = 1,
        purpose: Purpose = "train",
        *,
        extra: RecordDict | None = None,
        session: str | None = None,
        more: dict[str, Any] | None = None,
        **news: Any,
    ) -> Message:
        """Ask a hospital for its update."""
        content = self.request(round_, session, **more or {}).add_to(
            self.news(**news, session=session)
        )
        content.update(extra or {})
        return self.send(node, ACTIONS.get(purpose, MessageType.EVALUATE), content)

    def open(
        self,
        summed: bytes,
        round_: int = 1,
        purpose: Purpose = "train",
        *,
        session: str | None = None,
        metric_values: int = 0,
        contributors: int = len(CLINICS),
        **news: Any,
    ) -> Message:
        """Have company X open a sum over the model after the last total."""
        own = self.session if session is None else session
        request = DecryptRequest(own, purpose, round_, contributors, summed, metric_values)
        told = {"totals": self.totals[-1:], **news}
        return self.send(COMPANY, DECRYPT, request.add_to(self.news(**told, session=session)))

    def summed(
        self,
        round_: int = 1,
        purpose: Purpose = "train",
        among: Sequence[int] = CLINICS,
        **more: Any,
    ) -> bytes:
        """Return a fresh sum of hospitals' updates."""
        updates = [update_of(self.ask(node, round_, purpose, **more)) for node in among]
        return added(updates, self.public_key)

    def step(
        self, round_: int = 1, purpose: Purpose = "train", among: Sequence[int] = CLINICS
    ) -> bytes:
        """Take a step of an honest coordinator; return the total as company X tells it."""
        summed = self.summed(round_, purpose, among)
        reply = self.open(summed, round_, purpose, contributors=len(among))
        assert not reply.has_error(), reply.error.reason
        signed = DecryptReply.from_content(reply.content).signed
        assert signed is not None
        self.totals.append(signed)
        return signed

    def restart(self, run_id: int | None = None) -> None:
        """Delete the nodes' state in Flower, and give the run another number."""
        for context in self.grid.contexts.values():
            context.state = RecordDict()
            context.run_id = context.run_id if run_id is None else run_id


def update_of(reply: Message) -> bytes:
    """Return the encrypted update of a hospital's reply."""
    assert not reply.has_error(), reply.error.reason
    return EncryptedReply.from_content(reply.content).encrypted_sum


def opened(reply: Message, folder: Path) -> NDArray[np.float64]:
    """Return the content of a hospital's reply that only company X's key opens."""
    return unchecked(update_of(reply), session_key(folder))
