from __future__ import annotations

import flwr.serverapp.strategy as flower
import pytest
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy

from fl_he.strategies.encrypted_sum import SequentialPaillier
from fl_he.strategies.mean_only import OneRecordWarning, require_mean_only, setting
from fl_he.wire.records import ProtocolError


@pytest.mark.parametrize(
    "inner",
    [
        flower.Krum(),
        flower.MultiKrum(),
        flower.Bulyan(),
        flower.FedMedian(),
        flower.FedTrimmedAvg(),
        flower.QFedAvg(client_learning_rate=0.1),
        flower.FedXgbBagging(),
        flower.FedXgbCyclic(),
        flower.DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 3),
        flower.DifferentialPrivacyServerSideAdaptiveClipping(FedAvg(), 1.0, 30),
        flower.DifferentialPrivacyClientSideAdaptiveClipping(FedAvg(), 1.0, 30),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_strategies_that_need_single_updates_are_refused_by_name(inner: Strategy) -> None:
    with pytest.raises(ProtocolError, match=f"{type(inner).__name__} needs every single update"):
        SequentialPaillier(inner)


def test_an_accountant_that_counts_replies_is_refused() -> None:
    wrapped = flower.DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1.0, 1.0, 3)
    wrapped.accountant = object()  # type: ignore[assignment] # any accountant
    with pytest.raises(ProtocolError, match="ClientSideFixedClipping must have no accountant"):
        require_mean_only(wrapped)


def test_they_are_found_inside_other_wrappers() -> None:
    wrapped = flower.DifferentialPrivacyClientSideFixedClipping(flower.Krum(), 1.0, 1.0, 3)
    with pytest.raises(ProtocolError, match="Krum needs every single update"):
        SequentialPaillier(wrapped)


@pytest.mark.parametrize(
    "inner",
    [
        flower.FedAvg(),
        flower.FedAvgM(),
        flower.FedAdam(),
        flower.FedYogi(),
        flower.FedAdagrad(),
        flower.FedProx(),
        flower.DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1.0, 1.0, 3),
    ],
    ids=lambda inner: type(inner).__name__,
)
def test_strategies_that_need_the_mean_alone_are_welcome(inner: Strategy) -> None:
    require_mean_only(inner)


def test_settings_are_found_in_wrapped_strategies() -> None:
    wrapped = flower.DifferentialPrivacyClientSideFixedClipping(
        FedAvg(min_available_nodes=7), 1.0, 1.0, 3
    )
    assert setting(wrapped, "min_available_nodes", 1) == 7
    assert setting(wrapped, "no_such_setting", 1) == 1


def largest(records: list[RecordDict], _: str) -> MetricRecord:
    found = [float(str(one.metric_records["metrics"]["loss"])) for one in records]
    return MetricRecord({"largest-loss": max(found)})


@pytest.mark.parametrize("name", ["train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"])
def test_a_function_for_many_metric_records_is_warned_of(name: str) -> None:
    inner = FedAvg(**{name: largest})  # type: ignore[arg-type] # one of two
    wrapped = flower.DifferentialPrivacyClientSideFixedClipping(inner, 1.0, 1.0, 3)
    for strategy in (inner, wrapped):
        with pytest.warns(OneRecordWarning, match=f"{name} of FedAvg gets one record") as caught:
            SequentialPaillier(strategy)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.filterwarnings("error")
def test_flowers_own_functions_for_metrics_are_not_warned_of() -> None:
    SequentialPaillier(FedAvg())
    SequentialPaillier(flower.DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1.0, 1.0, 3))
