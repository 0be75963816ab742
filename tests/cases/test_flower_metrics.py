"""Metrics, examples and evaluations of other people's Flower apps, from issue threads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from other_apps import EXAMPLES, Arrays, InOrder, W, encrypted, mean_over, moved, reply_of, round_of
from sealed_federation import Federation

from fl_he.clients import encryption_mod, with_key_holder
from fl_he.strategies import EncryptedSum


@pytest.mark.parametrize("topology", ["fold", "chain"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e12, 10**400], ids=str)
def test_a_metric_that_is_no_number_costs_no_update(
    bad: float, topology: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Source: cases/README.md, londonaicentre/FLIP#764. The loss of one hospital, in round 1."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        first = client == 0 and round_of(message) == 1
        loss = bad if first else 0.5 * client
        return moved(client, message), {"loss": loss, "accuracy": 0.1 * client}

    result = encrypted(reply_of(app), W, topology=topology)
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + 2 * mean, atol=1e-6)
    losses, accuracies = [0.0, 0.5, 1.0, 1.5], [0.0, 0.1, 0.2, 0.3]
    first, second = (result.train_metrics_clientapp[number] for number in (1, 2))
    assert first["loss"] == pytest.approx(mean_over(losses, [1, 2, 3]), abs=1e-7)
    assert second["loss"] == pytest.approx(mean_over(losses, [0, 1, 2, 3]), abs=1e-7)
    for metrics in (first, second):
        assert metrics["accuracy"] == pytest.approx(mean_over(accuracies, [0, 1, 2, 3]), abs=1e-7)
    assert "the metric 'loss' is the mean of 3 of 4 hospitals" in caplog.text


def test_auc_where_one_hospital_has_one_class_only() -> None:
    """Source: microsoft/InnerEye-DeepLearning#340. An evaluation, each class its own AUC."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        each = [0.6 + 0.1 * client, math.nan if client == 2 else 0.5 + 0.1 * client]
        return moved(client, message), {"auc": each[1], "auc of each class": each}

    result = encrypted(reply_of(app), W, inner=FedAvg())
    metrics = result.evaluate_metrics_clientapp[2]
    without = mean_over([0.5, 0.6, 0.7, 0.8], [0, 1, 3])
    assert metrics["auc"] == pytest.approx(without, abs=1e-7)
    everywhere = mean_over([0.6, 0.7, 0.8, 0.9], [0, 1, 2, 3])
    assert metrics["auc of each class"] == pytest.approx([everywhere, without], abs=1e-7)


def test_a_metric_of_two_hospitals_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """With fewer hospitals than min_contributors one could compute the other's."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        return moved(client, message), {"auc": math.nan if client < 2 else 0.5, "loss": 0.25}

    result = encrypted(reply_of(app), W)
    metrics = result.train_metrics_clientapp[1]
    assert math.isnan(float(str(metrics["auc"])))
    assert metrics["loss"] == pytest.approx(0.25, abs=1e-7)
    assert "the metric 'auc' is withheld by company X: only 2 of 4 hospitals" in caplog.text


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_metrics_whose_names_differ_at_one_hospital(
    topology: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Source: cases/README.md. Plain Flower makes no mean at all of such a round."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        name = "validation loss" if client == 1 else "loss"
        return moved(client, message), {name: 0.5 * client, "accuracy": 0.1 * client}

    result = encrypted(reply_of(app), W, rounds=3, topology=topology)
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + 3 * mean, atol=1e-6)
    for number in (1, 2, 3):
        metrics = result.train_metrics_clientapp[number]
        expected = mean_over([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3])
        assert metrics["accuracy"] == pytest.approx(expected, abs=1e-7)
        if topology == "chain" and number == 1 and "loss" not in metrics:
            # The order is random: the others took over the metrics of the first in the chain.
            assert caplog.text.count("the metric 'loss' of hospital") == len([0, 2, 3])
            continue
        expected = mean_over([0.0, 0.5, 1.0, 1.5], [0, 2, 3])
        assert metrics["loss"] == pytest.approx(expected, abs=1e-7)
    assert "the metric 'validation loss'" in caplog.text


def test_a_metric_that_comes_every_other_round() -> None:
    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        metrics = {"loss": 0.5} | ({"auc": 0.1 * client} if round_of(message) % 2 else {})
        return moved(client, message), metrics

    result = encrypted(reply_of(app), W, rounds=4)
    expected = mean_over([0.0, 0.1, 0.2, 0.3], [0, 1, 2, 3])
    found = [result.train_metrics_clientapp[number].get("auc") for number in (1, 2, 3, 4)]
    assert [math.isnan(float(str(found[at]))) for at in (1, 3)] == [True, True]
    assert [found[0], found[2]] == pytest.approx([expected, expected], abs=1e-7)


def test_a_metric_that_was_not_in_the_first_reply(caplog: pytest.LogCaptureFixture) -> None:
    """A form that changed could say something of data."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        metrics = {"loss": 0.5} | ({"auc": 0.1 * client} if round_of(message) > 1 else {})
        return moved(client, message), metrics

    result = encrypted(reply_of(app), W, rounds=2)
    assert "auc" not in result.train_metrics_clientapp[2]
    assert result.train_metrics_clientapp[2]["loss"] == pytest.approx(0.5, abs=1e-7)
    assert "the metric 'auc' is left out: the app's first reply did not have it" in caplog.text


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_a_hospital_without_examples_in_one_round(topology: str) -> None:
    """Source: cases/README.md, flwrlabs/flower#3188, FedML-AI/FedML#175."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        if client == 2 and round_of(message) == 1:
            return {"w": np.full(3, math.nan)}, {"loss": math.nan, "num-examples": 0}
        return moved(client, message), {"loss": 0.5}

    result = encrypted(reply_of(app), W, topology=topology)
    first, second = mean_over([1, 2, 3, 4], [0, 1, 3]), mean_over([1, 2, 3, 4], [0, 1, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + first + second, atol=1e-6)


def test_an_evaluation_without_any_example_touches_no_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Source: flwrlabs/flower#7693."""

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        empty = message.metadata.message_type == "evaluate" and round_of(message) == 1
        return moved(client, message), {"loss": 0.5} | ({"num-examples": 0} if empty else {})

    result = encrypted(reply_of(app), W, inner=FedAvg())
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + 2 * mean, atol=1e-6)
    assert list(result.evaluate_metrics_clientapp) == [2]
    assert "round 1 has no evaluation: the total of 'num-examples' must be positive" in caplog.text


def test_an_evaluation_that_fails_at_two_hospitals_touches_no_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        if message.metadata.message_type == "evaluate" and client < 2:
            raise ValueError("no test set")
        return moved(client, message), {"loss": 0.5}

    result = encrypted(reply_of(app), W, inner=FedAvg())
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + 2 * mean, atol=1e-6)
    assert not result.evaluate_metrics_clientapp
    (line,) = [m for m in caplog.messages if m.startswith("round 1 has no evaluation: hospital-")]
    assert line.endswith(
        "ValueError: no test set; a round must have at least 3 contributors "
        "(min_contributors), got 2"
    )


def test_a_list_too_long_for_the_coordinator_stops_no_other_hospital(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        return moved(client, message), {"curve": [0.5] * (2**20 + 1 if client == 1 else 2)}

    result = encrypted(reply_of(app), W, rounds=1)
    expected = W["w"] + mean_over([1, 2, 3, 4], [0, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), expected, atol=1e-7)
    assert "hospital-2 is skipped in this round: the coordinator could not read" in caplog.text


def test_of_as_many_hospitals_those_with_more_metrics_count() -> None:
    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        return moved(client, message), {"loss": 0.5} | ({"auc": 0.5} if client > 1 else {})

    result = encrypted(reply_of(app), W, rounds=1, inner=InOrder())
    assert set(result.train_metrics_clientapp[1]) >= {"loss", "auc"}


class Metrics(Federation):
    """Five enrolled hospitals of a foreign app; some have no number for a metric in round 1."""

    lacking: tuple[str, ...] = ()

    def app(self) -> ClientApp:
        app = ClientApp(mods=[encryption_mod])

        @app.train()
        def train(message: Message, context: Context) -> Message:
            name = str(context.node_config["name"])
            first = message.content.config_records["config"]["server-round"] == 1
            age = math.nan if first and name in self.lacking else 50.0 + len(name)
            metrics = MetricRecord({"num-examples": 10, "age": age, "loss": 0.5})
            content = RecordDict({"arrays": ArrayRecord([np.zeros(2)]), "metrics": metrics})
            return Message(content, reply_to=message)

        return with_key_holder(app)


@pytest.mark.parametrize(("lacking", "withheld"), [(0, False), (1, True), (2, True), (3, False)])
def test_with_a_manifest_no_mean_singles_out_the_hospitals_that_lack_a_metric(
    tmp_path: Path, lacking: int, withheld: bool
) -> None:
    """With the mean of a round in which all have the metric it would show theirs."""
    names = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
    federation = Metrics(tmp_path, dict.fromkeys(names, 5))
    federation.lacking = tuple(names[:lacking])
    strategy = EncryptedSum(FedAvg(fraction_evaluate=0.0), node_timeout=1.0)
    result = strategy.start(federation.grid, ArrayRecord([np.zeros(2)]), num_rounds=2)
    first, second = (result.train_metrics_clientapp[number] for number in (1, 2))
    assert first["loss"] == second["loss"] == pytest.approx(0.5, abs=1e-7)
    assert second["age"] == pytest.approx(53.5, abs=1e-6)
    mean = np.mean([50.0 + len(name) for name in names[lacking:]])
    expected = math.nan if withheld else mean
    assert first["age"] == pytest.approx(expected, abs=1e-6, nan_ok=True)
