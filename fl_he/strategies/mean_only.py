"""Flower's strategies that need only the weighted mean."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import flwr.serverapp.strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from fl_he.errors import FlHeWarning
from fl_he.wire.records import ProtocolError

#: Strategies that look at single updates, or count replies, and what to do instead.
_SINGLE_UPDATES = {
    (
        flower.Krum,
        flower.MultiKrum,
        flower.Bulyan,
        flower.FedMedian,
        flower.FedTrimmedAvg,
        flower.QFedAvg,
        flower.FedXgbBagging,
        flower.FedXgbCyclic,
    ): "use a strategy that needs the mean alone, such as FedAvg, FedAdam or FedProx",
    (
        flower.DifferentialPrivacyServerSideFixedClipping,
        flower.DifferentialPrivacyServerSideAdaptiveClipping,
        flower.DifferentialPrivacyClientSideAdaptiveClipping,
    ): "use DifferentialPrivacyClientSideFixedClipping, whose clients clip by a fixed norm",
}


def require_mean_only(strategy: Strategy) -> None:
    """Refuse a strategy, or one that it wraps, that needs more than the weighted mean.

    Raises
    ------
    ProtocolError
        With the strategy's name and what to use instead.
    """
    if not isinstance(strategy, Strategy):
        kind = type(strategy)
        raise ProtocolError(
            f"the strategy must be one of flwr.serverapp.strategy, got {kind.__module__}."
            f"{kind.__qualname__}: use its namesake there, such as flwr.serverapp.strategy.FedAvg"
        )
    for inner in _unwrapped(strategy):
        for kinds, instead in _SINGLE_UPDATES.items():
            if isinstance(inner, kinds):
                raise ProtocolError(
                    f"{type(inner).__name__} needs every single update, and under encryption "
                    f"there is only their weighted mean: {instead}"
                )
        if getattr(inner, "accountant", None) is not None:
            raise ProtocolError(
                f"{type(inner).__name__} must have no accountant: it counts replies, and under "
                "encryption there is one for all"
            )


class OneRecordWarning(FlHeWarning):
    """A strategy's function for the metrics of many replies gets one, the mean."""


def warn_of_metrics_functions(strategy: Strategy) -> None:
    """Warn, in the name of who wraps the strategy, if it aggregates metrics by its own function."""
    for inner in _unwrapped(strategy):
        for name in ("train_metrics_aggr_fn", "evaluate_metrics_aggr_fn"):
            if getattr(inner, name, None) not in (None, aggregate_metricrecords):
                warnings.warn(
                    f"{name} of {type(inner).__name__} gets one record, the weighted mean of the "
                    "hospitals' metrics: a maximum or a spread over hospitals cannot be computed "
                    "from it. Leave it out if a weighted mean is meant",
                    OneRecordWarning,
                    stacklevel=3,
                )


def setting(strategy: Strategy, name: str, default: Any) -> Any:
    """Return an attribute of a strategy or of the one it wraps; the default if none has it."""
    for inner in _unwrapped(strategy):
        if hasattr(inner, name):
            return getattr(inner, name)
    return default


def _unwrapped(strategy: Strategy) -> Iterator[Strategy]:
    inner: object = strategy
    while isinstance(inner, Strategy):
        yield inner
        inner = getattr(inner, "strategy", None)
