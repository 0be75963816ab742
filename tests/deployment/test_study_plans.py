"""Deployed nodes under a study plan: honest runs, and a coordinator that asks for more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import HEADER, ROWS, deployed_nodes, enrolled_nodes
from experiments import experiment
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid, simulated_nodes
from quick import slow
from study_plans import PLAN, RANGED, UNPREPARED
from ticketed_sums import key_records

from fl_he import client_app, server_app
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.crypto.schemes import SCHEMES
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.evaluation import BINS
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    FIGURES,
    FINISH,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    SITES,
    DecryptRequest,
    Description,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import LearningTerms, TrainingTerms
from fl_he.wire.model import model_arrays, model_message_content
from fl_he.wire.planned_messages import Choice
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import News, OpenNews
from fl_he.wire.study_plan import StudyPlan

HOSPITALS, COMPANY = (1000, 1001, 1002), 1003
GD = ("optimizer=gd", "optimizer.lr=0.5", "tolerance=1e-6", "rounds=3", "scaling=none")
SEALED = (*GD, "sealed=true", "topology=chain")


def grid_of(nodes: list[UserConfig], run_id: int = 7) -> LocalGrid:
    return LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=run_id)


def trained(folder: Path, nodes: list[UserConfig], *overrides: str, run: int = 7) -> dict[str, Any]:
    own = folder / f"run-{run}"
    config = experiment(f"plan={folder / 'plan-0.json'}", *overrides, folder=own)
    grid = grid_of(nodes, run)
    metrics = server_app.train(grid, config, own)
    assert [refusal(reply) for reply in grid.received if reply.has_error()] == []
    return metrics


def refusal(reply: Message) -> str:
    """Return the words of a refusal, and "" for an answer."""
    return str(reply.error.reason) if reply.has_error() else ""


class Coordinator:
    """A coordinator that sends nodes arbitrary requests.

    Parameters
    ----------
    grid : LocalGrid
    plan : StudyPlan
        Named in its messages.
    """

    def __init__(self, grid: LocalGrid, plan: StudyPlan = PLAN) -> None:
        self.grid, self.plan = grid, plan
        reply = self.send(COMPANY, DESCRIBE, RecordDict())
        self.company = Description.from_content(reply.content)

    def ask(
        self,
        action: str = MessageType.TRAIN,
        *,
        round_: int = 1,
        session: str | None = None,
        node: int = HOSPITALS[0],
        config: ConfigRecord | None = None,
        extra: RecordDict | None = None,
        **choice: Any,
    ) -> str:
        """Return a hospital's refusal, and "" if there is an answer."""
        own = self.company.session if session is None else session
        content = self._told(own, config, choice)
        content = self.request(own, round_).add_to(content)
        content.update(extra or {})
        return refusal(self.send(node, action, content))

    def request(self, session: str | None = None, round_: int = 1) -> EncryptionRequest:
        """Return the request for an update."""
        own = self.company.session if session is None else session
        return EncryptionRequest(self.company.public_key, self.company.packing, own, round_)

    def open(
        self,
        round_: int = 1,
        purpose: Any = "train",
        config: ConfigRecord | None = None,
        **choice: Any,
    ) -> str:
        """Return company X's refusal to open a sum that is none."""
        request = DecryptRequest(self.company.session, purpose, round_, 3, b"no sum")
        told = self._told(self.company.session, config, choice)
        return refusal(self.send(COMPANY, DECRYPT, request.add_to(told)))

    def _told(
        self, session: str, config: ConfigRecord | None, choice: dict[str, Any]
    ) -> RecordDict:
        content = OpenNews(session).add_to(self._choice(choice).to_content())
        content["config"] = task() if config is None else config
        return content

    def _choice(self, changes: dict[str, Any]) -> Choice:
        return replace(Choice(self.plan.digest, "gd", 0.5, 1.0), **changes)

    def send(self, node: int, action: str, content: RecordDict) -> Message:
        """Send a message as it is, and return the reply."""
        if node in HOSPITALS and "public-key" in content.config_records.get("fl-he", {}):
            own = self.company.value_keys.get(f"clinic-{HOSPITALS.index(node) + 1}")
            if own is not None:
                content = RecordDict({**key_records(own, self.company.run_key), **content})
        (sent,) = self.grid.push_messages([Message(content, node, action)])
        (reply,) = self.grid.pull_messages([sent])
        return reply


def task(**changes: Any) -> ConfigRecord:
    """Return the task of the plan, by the coordinator's usual choice."""
    usual: dict[str, Any] = {
        **{"features": 2, "classes": 2, "optimizer": "gd", "lr": 0.5, "C": 1.0},
        **{"tolerance": 1e-6, "max_step": 10.0, "max_coefficient": 10.0},
    }
    return TrainingTerms(**usual | changes).to_config()


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator(grid_of(enrolled_nodes(tmp_path, PLAN)))


def test_a_run_under_a_plan_trains_as_without(tmp_path: Path) -> None:
    """Newton's method, federated scaling, and an open sum for the separation."""
    plan = replace(PLAN, scaling="federated", most_rounds=20)
    (tmp_path / "planned").mkdir()
    settings = ("optimizer=newton", "rounds=12", "tolerance=1e-6", "C=1")
    planned = trained(tmp_path / "planned", enrolled_nodes(tmp_path / "planned", plan), *settings)
    config = experiment(*settings, folder=tmp_path / "run")
    plain = server_app.train(grid_of(enrolled_nodes(tmp_path)), config, tmp_path / "run")
    assert planned["federated"]["coefficients"] == plain["federated"]["coefficients"]


FIRST_ORDER: dict[str, Any] = {"optimizers": ("gd", "nesterov")}
WITH_FIRTH: dict[str, Any] = {"penalty": "firth", "C": (None,), "optimizers": ("newton",), "lr": ()}
BUDGET: dict[str, Any] = {
    **{"privacy-epsilon": 9.0, "privacy-delta": 1e-5, "privacy-clip": 1.0, "privacy-rounds": 4},
    "privacy-scaling": 0.25,
}
PRIVACY = GaussianPrivacy(9.0, 1e-5, 1.0, 4, 3, 0.25)


@pytest.mark.parametrize(
    ("changes", "overrides"),
    slow(
        (
            {"scaling": "federated", "class_weights": "balanced"},
            ("sealed=true", "topology=chain", "optimizer=newton", "class_weight=balanced"),
        ),
        (
            {"scaling": "federated", "class_weights": "balanced", "bins": BINS},
            ("optimizer=newton", "class_weight=balanced", "evaluate=true"),
        ),
        (
            {**WITH_FIRTH, "profile": True, "most_rounds": 30, "max_coefficient": 99.0},
            ("penalty=firth", "scaling=none", "optimizer=newton"),
        ),
        (
            {"scaling": "ranges", "ranges": RANGED.ranges, **FIRST_ORDER},
            ("optimizer=nesterov", "optimizer.lr=0.25", "scaling=ranges", "ranges=ranges.csv"),
        ),
        (
            {"scaling": "federated", "ranges": RANGED.ranges, "privacy": PRIVACY, **FIRST_ORDER},
            (
                *("privacy=gaussian", "privacy.epsilon=9", "privacy.delta=1e-5", "privacy.clip=1"),
                *(
                    "privacy.scaling=0.25",
                    "scaling=federated",
                    "ranges=ranges.csv",
                    "optimizer.lr=0.5",
                    "rounds=4",
                ),
            ),
        ),
    ),
)
def test_every_kind_of_run_is_within_its_plan(
    tmp_path: Path, changes: dict[str, Any], overrides: tuple[str, ...]
) -> None:
    plan = replace(PLAN, **({"most_rounds": 4} | changes))
    nodes = enrolled_nodes(tmp_path, plan)
    (tmp_path / "ranges.csv").write_text("feature,low,high\nage,-1,3\nsize,-2,2\n")
    for number, node in enumerate(nodes[:3]):
        node["test-data"] = node["data"]
        if plan.privacy is not None:
            node.update({**BUDGET, "privacy-ledger": str(tmp_path / f"{number}.ledger")})
    settings = [f"rounds={plan.most_rounds}", f"C={'null' if plan.C[0] is None else 1}"]
    settings += ["inference.profile=[age]"] if plan.profile else []
    named = [one.replace("=ranges.csv", f"={tmp_path / 'ranges.csv'}") for one in overrides]
    metrics = trained(tmp_path, nodes, "tolerance=1e-6", *settings, *named)
    assert metrics["rounds"]


@pytest.mark.parametrize("masked", [False, *slow((True,))])
def test_a_sealed_chain_under_a_plan_trains(tmp_path: Path, masked: bool) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    for node in nodes[: 3 * masked]:
        node |= {"collusion": "resistant", "sealed": True}
    metrics = trained(tmp_path, nodes, *SEALED)
    assert metrics["crypto"]["masked_set"] == 3 * masked
    assert [entry["contributors"] for entry in metrics["rounds"]] == [3, 3, 3]
    assert LogisticModel.load(tmp_path / "model-1.json").coefficients.any()
    lines = (tmp_path / "1.csv.plans.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]


def test_all_that_a_run_does_otherwise_is_said_before_its_first_message(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    own = tmp_path / "run"
    config = experiment(
        f"plan={tmp_path / 'plan-0.json'}",
        *("optimizer=nesterov", "C=3", "rounds=9", "class_weight=balanced", "evaluate=true"),
        folder=own,
    )
    grid = grid_of(nodes)
    with pytest.raises(ConfigError) as caught:
        server_app.train(grid, config, own)
    assert str(caught.value) == (
        f"the run must be as the study plan {PLAN.digest[:16]} allows: scaling must be none, got "
        "federated; class_weight must be equal, got balanced; tolerance must be 1e-06, got 1e-07; "
        "optimizer must be newton or gd, got nesterov; C must be 1 or null, got 3; evaluate must "
        "be false, got true; rounds must be at most 4, got 9"
    )
    assert grid.sent == []


def test_a_run_without_a_plan_is_answered_by_nobody(tmp_path: Path) -> None:
    config = experiment(*GD, folder=tmp_path / "run")
    with pytest.raises(ProtocolError, match="start the run with plan=FILE"):
        server_app.train(grid_of(enrolled_nodes(tmp_path, PLAN)), config, tmp_path / "run")


@pytest.mark.parametrize(
    ("node", "change", "words"),
    [
        (0, {"plan": None}, "must be given plan in its node configuration"),
        (3, {"plan": None}, "must be given plan in its node configuration"),
        (1, {"plan": "other.json"}, "plan in the node configuration must be named by the manifest"),
        (1, {"plan": "nowhere.json"}, "cannot read the file named by plan in the node"),
        (
            1,
            {"positive": "well"},
            'must be only target="state" positive="sick", as in the study',
        ),
        (2, {"drop": "age"}, "must have the features of the study plan"),
        (3, {"min-contributors": 2}, "min-contributors in the node configuration must be at least"),
        (
            2,
            {
                **{"privacy-epsilon": 1.0, "privacy-delta": 1e-5, "privacy-clip": 1.0},
                **{"privacy-rounds": 3, "privacy-ledger": "ledger"},
            },
            "the privacy settings in the node configuration must be no privacy",
        ),
    ],
)
def test_a_node_that_is_not_set_up_for_its_plan_says_so_at_the_start(
    tmp_path: Path, node: int, change: dict[str, Any], words: str
) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    (tmp_path / "other.json").write_text(replace(PLAN, most_rounds=5).to_json())
    for key, value in change.items():
        in_folder = key == "plan" and value is not None
        nodes[node][key] = str(tmp_path / value) if in_folder else value
    nodes[node] = {key: value for key, value in nodes[node].items() if value is not None}
    with pytest.raises(ProtocolError) as caught:
        trained(tmp_path, nodes, *GD)
    assert words in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_coordinator_that_asks_no_node_what_it_is_meets_the_same_checks(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    nodes[0]["positive"] = "well"
    coordinator = Coordinator(grid_of(nodes))
    coordinator.grid.contexts[COMPANY].node_config["min-contributors"] = 2
    assert (
        "target, positive, threshold, classes, family, event, ties and exposure"
        in coordinator.ask()
    )
    assert "min-contributors in the node configuration" in coordinator.open()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resumed_run_goes_on_in_its_session(tmp_path: Path, scheme: str) -> None:
    """Company X vanishes before the third total; a session counts once however often it resumes."""
    nodes = enrolled_nodes(tmp_path, PLAN)
    own = tmp_path / "run"
    plan = f"plan={tmp_path / 'plan-0.json'}"
    settings = [plan, *GD, "key_holder_timeout=1", f"crypto.scheme={scheme}"]
    config = experiment(*settings, folder=own)
    for run, opened in ((50, 2), (51, 0), (52, 9)):
        grid, answered = grid_of(nodes, run), Counter[str]()

        def tamper(reply: Message, opened: int = opened, answered: Counter[str] = answered) -> Any:
            action = reply.metadata.message_type
            answered[action] += 1
            return None if action == DECRYPT and answered[action] > opened else reply

        grid.tamper = tamper
        going_on = config if run == 50 else replace(config, resume=str(own))
        with nullcontext() if opened == 9 else pytest.raises(ProtocolError):
            metrics = server_app.train(grid, going_on, own)
    assert len(metrics["rounds"]) == 3
    assert metrics["crypto"]["scheme"] == scheme
    lines = (tmp_path / "1.csv.plans.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]
    assert len({json.loads(line)["session"] for line in lines}) == 1


def test_a_simulation_is_held_to_a_plan_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "".join(ROWS.values()) * 3)
    (tmp_path / "plan.json").write_text(PLAN.to_json())
    table = ("data=csv", f"data.path={tmp_path / 't.csv'}", "data.target=state")
    config = experiment(
        *table, *GD, "data.positive=sick", f"plan={tmp_path / 'plan.json'}", folder=tmp_path / "run"
    )
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    assert len(server_app.train(grid, config, tmp_path / "run")["rounds"]) == 3
    assert any(Choice.HOME in message.content for message in grid.sent)


def test_a_plan_needs_a_manifest_that_names_plans(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path)
    (tmp_path / "plan-0.json").write_text(PLAN.to_json())
    nodes[0]["plan"] = str(tmp_path / "plan-0.json")
    with pytest.raises(ProtocolError, match="plan must come with a manifest that names study"):
        trained(tmp_path, nodes, *GD)


MODEL = model_message_content(model_arrays(np.array([1e4, 0.0]), -2e4))


@pytest.mark.parametrize("action", ["train", "evaluate", "evaluate.figures", FINISH])
def test_with_a_manifest_and_no_plan_a_model_is_refused(tmp_path: Path, action: str) -> None:
    """Without a manifest it is answered, as in an app of the user's own."""
    for folder, nodes in (("with", enrolled_nodes), ("without", deployed_nodes)):
        (tmp_path / folder).mkdir()
        configured = nodes(tmp_path / folder)
        for node in configured[:3]:
            node["test-data"] = node["data"]
        asking = Coordinator(grid_of(configured))
        answer = refusal(asking.send(HOSPITALS[0], action, asking.request().add_to(MODEL)))
        assert ("must bring totals and no model" in answer) is (folder == "with")
        assert folder == "with" or not answer


def test_nor_does_company_x_open_a_sum_over_one(tmp_path: Path) -> None:
    asking = Coordinator(grid_of(enrolled_nodes(tmp_path)))
    request = DecryptRequest(asking.company.session, "train", 1, 3, b"no sum")
    answer = refusal(asking.send(COMPANY, DECRYPT, request.to_content()))
    assert "must bring totals and no model" in answer


UNITS: dict[str, Any] = {"scaling": "federated", "mean": (0.0, 0.0), "scale": (1.0, 1.0)}


@pytest.mark.parametrize(
    ("config", "choice", "words"),
    [
        (task(), {"lr": 1e12}, "lr must be 0.5 or 0.25 by the study plan, got 1000000000000.0"),
        (task(), {"lr": None}, "lr must be 0.5 or 0.25 by the study plan, got null"),
        (task(), {"C": 1e-9}, "C must be 1.0 or null by the study plan, got 1e-09"),
        (task(), {"optimizer": "lbfgs"}, "optimizer must be newton or gd by the study plan"),
        (task(), {"optimizer": "newton"}, "lr must be null by the study plan, got 0.5"),
        (task(lr=0.25), {}, "lr of a train config must be those picked from the study plan"),
        (task(C=None), {}, "C of a train config must be those picked"),
        (task(optimizer="nesterov"), {}, "optimizer of a train config must be those picked"),
        (task(features=3), {}, "features of a train config must be those picked"),
        (task(classes=3), {}, "classes of a train config must be those picked"),
        (task(balanced=True), {}, "balanced of a train config must be those picked"),
        (task(imputed=("age",)), {}, "imputed of a train config must be those picked"),
        (task(scaling="local"), {}, "scaling of a train config must be those picked"),
        (task(**UNITS), {}, "scaling, mean, scale of a train config must be those picked"),
        (
            task(scaling="federated", low=(0.0, 0.0), high=(1.0, 1.0)),
            {},
            "scaling, low, high of a train config must be those picked",
        ),
        (task(max_step=11.0), {}, "max_step of a train config must be those picked"),
        (task(max_coefficient=None), {}, "max_coefficient of a train config must be those"),
        (task(tolerance=0.0), {}, "tolerance of a train config must be those picked"),
        (task(firth=True), {}, "firth of a train config must be those picked"),
        (task(profile=(0,)), {}, "profile of a train config must be those picked"),
        (
            task(optimizer="newton", C=None, sites=True),
            {"optimizer": "newton", "lr": None, "C": None},
            "sites of a train config must be those picked",
        ),
        (ConfigRecord({**task(), "class-weights": [1.0, 1e-300]}), {}, "must have no settings but"),
        (ConfigRecord({**task(), "threshold": 3.0}), {}, "must have no settings but"),
        (
            ConfigRecord({**task(), "privacy-epsilon": 1.0}),
            {},
            "privacy-delta must be a decimal number, got nothing",
        ),
        (LearningTerms().to_config(), {}, "features must be an integer, got nothing"),
    ],
)
def test_what_the_plan_does_not_allow_is_refused(
    coordinator: Coordinator, config: ConfigRecord, choice: dict[str, Any], words: str
) -> None:
    assert words in coordinator.ask(config=config, **choice)
    assert words in coordinator.open(config=config, **choice)
    assert coordinator.ask() == ""


MODEL = model_message_content(model_arrays(np.array([9.0, 0.0]), 0.0))
#: All sums but those of training itself.
_SUMS = (SEPARATION, SITES, FIGURES, PROFILE, FIRTH, MOMENTS)


def test_no_model_is_the_coordinators(coordinator: Coordinator) -> None:
    """Refuse models in addition to totals or in place of them, for training or for saving."""
    assert "must hold the train config and no other records, got ['arrays']" in coordinator.ask(
        extra=MODEL
    )
    request = EncryptionRequest(
        coordinator.company.public_key, coordinator.company.packing, coordinator.company.session, 1
    )
    choice = Choice(PLAN.digest, "gd", 0.5, 1.0)
    words = (
        "a message under a study plan must bring totals and no model: hospitals and company X "
        "compute the model themselves"
    )
    for action in (MessageType.TRAIN, FINISH, *_SUMS):
        content = choice.add_to(request.add_to(MODEL))
        content["config"] = task()
        assert refusal(coordinator.send(HOSPITALS[0], action, content)) == words
        # The mark of a sealed chain does not help: nobody accepts such a message.
        content = News(coordinator.company.session).add_to(content)
        content.config_records["fl-he"].update({"contributors": [], "next": "clinic-2"})
        assert refusal(coordinator.send(HOSPITALS[0], action, content))
    opening = DecryptRequest(coordinator.company.session, "train", 1, 3, b"").to_content()
    content = choice.add_to(opening)
    content["config"] = task()
    assert refusal(coordinator.send(COMPANY, DECRYPT, content)) == words


@pytest.mark.parametrize(
    "action", [MOMENTS, PROFILE, FIRTH, SITES, FIGURES, MessageType.EVALUATE, "train.anything"]
)
def test_sums_that_the_plan_does_not_have_are_refused(tmp_path: Path, action: str) -> None:
    coordinator = Coordinator(grid_of(enrolled_nodes(tmp_path, UNPREPARED)), UNPREPARED)
    assert "the study plan" in coordinator.ask(action)


def test_one_hospital_gets_no_other_units(tmp_path: Path) -> None:
    coordinator = Coordinator(grid_of(enrolled_nodes(tmp_path, RANGED)), RANGED)
    declared: dict[str, Any] = {"scaling": "federated", "mean": (1.0, 0.0), "scale": (2.0, 2.0)}
    assert coordinator.ask(config=task(**declared)) == ""
    for name, changed in (("mean", (1.0, 0.1)), ("scale", (2.0, 1e-9))):
        other = task(**declared | {name: changed})
        reason = coordinator.ask(config=other, node=HOSPITALS[1])
        assert reason == f"{name} of a train config must be those picked from the study plan"


def test_a_session_keeps_to_its_choice(coordinator: Coordinator) -> None:
    assert coordinator.ask() == ""
    for changes in ({"lr": 0.25}, {"C": None}):
        reason = coordinator.ask(round_=2, config=task(**changes), **changes)
        assert reason == "the train config must stay as the session began, and it has changed"
    assert coordinator.ask() == ""


def test_an_unknown_plan_is_refused(tmp_path: Path) -> None:
    grid = grid_of(enrolled_nodes(tmp_path, PLAN))
    laxer = replace(PLAN, most_rounds=1000)
    coordinator = Coordinator(grid, laxer)
    words = (
        f"a message must be under a study plan of this node, {PLAN.digest[:16]}, got "
        f"{laxer.digest[:16]}"
    )
    assert coordinator.ask() == words
    assert coordinator.open() == words


def test_the_plan_of_the_manifest_may_be_one_of_several(tmp_path: Path) -> None:
    other = replace(PLAN, most_rounds=1)
    grid = grid_of(enrolled_nodes(tmp_path, PLAN, other))
    coordinator = Coordinator(grid, other)
    assert coordinator.ask() == ""
    assert "at most 1 rounds of train, got round 2" in coordinator.ask(round_=2)
    coordinator.plan = PLAN
    assert "must be of one study plan" in coordinator.ask(round_=2)


def test_a_round_is_of_one_model_and_a_session_has_the_plans_rounds(
    coordinator: Coordinator,
) -> None:
    assert coordinator.ask() == ""
    assert coordinator.ask() == ""  # the answer was lost
    assert "a model is asked about in one round of train" in coordinator.ask(round_=2)
    assert "at most 4 rounds of train, got round 5" in coordinator.ask(round_=5)
    assert "at most 4 rounds of train, got round 5" in coordinator.open(5)


def test_company_x_opens_what_the_plan_has(tmp_path: Path) -> None:
    coordinator = Coordinator(grid_of(enrolled_nodes(tmp_path, UNPREPARED)), UNPREPARED)
    for purpose in ("prepare", "figures", "evaluate", "firth", "profile", "sites"):
        assert coordinator.open(purpose=purpose) == f"the study plan has no sums for {purpose}"
    assert "at most 1 rounds of separation" in coordinator.open(2, "separation")
    assert "lr must be 0.5 or 0.25" in coordinator.open(lr=1e12)


def restarted(grid: LocalGrid) -> None:
    """Delete the nodes' state in Flower: a coordinator can do so by a new run."""
    for context in grid.contexts.values():
        context.state = RecordDict()


@pytest.mark.parametrize("between", [lambda _: None, restarted])
def test_a_slow_search_over_nine_sessions_ends_with_the_second(
    tmp_path: Path, between: Callable[[LocalGrid], None]
) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    answers = []
    for run in range(9):
        grid = grid_of(nodes, run_id=100 + run)
        between(grid)
        answers.append(Coordinator(grid).ask())
    assert answers[:2] == ["", ""]
    words = (
        "the study plan has 2 sessions, and this node has taken part in as many: further ones "
        "need a new plan"
    )
    assert answers[2:] == [words] * 7


def test_made_up_sessions_use_up_no_plan(coordinator: Coordinator) -> None:
    answers = [coordinator.ask(session=f"made-up-{number}") for number in range(4)]
    words = "the key of the run is not of the message's session"
    assert answers == [words] * 4
    assert coordinator.ask() == ""
    assert "must name company X's session" in coordinator.ask(session="")


def test_a_reused_run_is_the_same_session(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    for _ in range(5):
        coordinator = Coordinator(grid_of(nodes, run_id=100))
        restarted(coordinator.grid)
        assert coordinator.ask() == ""
        assert "must stay as the session began" in coordinator.ask(config=task(C=None), C=None)


def test_company_x_counts_sessions_across_runs(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path, PLAN)
    answers = [Coordinator(grid_of(nodes, run_id=100 + run)).open() for run in range(4)]
    assert all("the study plan has 2 sessions" not in answer for answer in answers[:2])
    assert all("the study plan has 2 sessions" in answer for answer in answers[2:])


def test_what_is_refused_is_not_counted(coordinator: Coordinator, tmp_path: Path) -> None:
    for number in range(9):
        assert coordinator.ask(config=task(lr=1e12), session=f"made-up-{number}")
    assert not (tmp_path / "1.csv.plans.jsonl").exists()
    assert coordinator.ask() == ""


def test_a_separation_is_asked_once_and_where_the_totals_have_a_direction(
    coordinator: Coordinator,
) -> None:
    assert "a sum for 'separation' cannot come now" in coordinator.ask(SEPARATION)
    assert "at most 1 rounds of separation" in coordinator.ask(SEPARATION, round_=2)


def test_hospitals_are_compared_once_after_training_and_from_totals_alone(tmp_path: Path) -> None:
    plan = replace(PLAN, C=(None,), optimizers=("newton",), lr=(), sites=True)
    coordinator = Coordinator(grid_of(enrolled_nodes(tmp_path, plan)), plan)
    chosen: dict[str, Any] = {"optimizer": "newton", "lr": None, "C": None}
    asked = task(optimizer="newton", C=None, sites=True)
    early = "a sum for 'sites' cannot come now"
    assert early in coordinator.ask(SITES, config=asked, **chosen)
    assert early in coordinator.open(purpose="sites", config=asked, **chosen)
    later = "the study plan has at most 1 rounds of sites, got round 2"
    assert coordinator.ask(SITES, round_=2, config=asked, **chosen) == later
    assert coordinator.open(2, "sites", asked, **chosen) == later
    for changes in ({"sites": False}, {"C": 1.0}, {"tolerance": 1e9}):
        other = task(**{"optimizer": "newton", "C": None, "sites": True} | changes)
        assert coordinator.ask(SITES, config=other, **chosen)
        assert coordinator.open(purpose="sites", config=other, **chosen)


def test_lr_in_a_sealed_chain_is_the_plans(tmp_path: Path) -> None:
    """A coordinator whose own check is gone sends lr=1e12 to hospitals that step themselves."""
    nodes = enrolled_nodes(tmp_path, PLAN)
    config = experiment(*SEALED, "optimizer.lr=1e12", "C=1", folder=tmp_path / "run")

    class Lying(LocalGrid):
        def push_messages(self, messages: Any) -> Any:
            listed = list(messages)
            for message in listed:
                choice = Choice(PLAN.digest, "gd", 0.5, 1.0)
                message.content = choice.add_to(message.content)
            return super().push_messages(listed)

    grid = Lying(client_app.build(lambda _: Config()), nodes)
    with pytest.raises(ProtocolError):
        server_app.train(grid, config, tmp_path / "run")
    reasons = [reply.error.reason for reply in grid.received if reply.has_error()]
    assert reasons
    words = (
        "lr, max_step, max_coefficient of a train config must be those picked from the study plan"
    )
    assert set(reasons) == {words}


def test_a_model_of_a_sealed_chain_stays_small(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Why it stopped, company X's log says: the coordinator must not know the model."""
    plan = replace(PLAN, max_coefficient=1e-3)
    with pytest.raises(ProtocolError, match=PRIVATE_REFUSAL):
        trained(tmp_path, enrolled_nodes(tmp_path, plan), *SEALED)
    assert "coefficients must be at most 0.001 in size (value withheld)" in caplog.text
