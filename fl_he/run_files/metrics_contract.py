"""What metrics.json must hold: the contract, version 1.

Figures are finite numbers or null. Where nobody holds test data, as in a deployment, ``local`` is
empty or null, ``pooled`` is null, and so is each figure on a test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fl_he.errors import FlHeError

VERSION = 1
#: Value of ``protocol`` in a run of CaPC, whose contract is docs/capc.md's.
CAPC = "capc"

#: Quality of one model on the test set.
FIGURES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
#: What is known of one coefficient.
INFERENCE = (
    *("estimate", "standard_error", "z", "p_value", "lower", "upper"),
    *("odds_ratio", "odds_ratio_lower", "odds_ratio_upper"),
)
#: Seconds of one round, by step of the encrypted sum.
STEPS = ("encrypt_seconds", "add_seconds", "decrypt_seconds")
_ROUND = (
    *("loss", "accuracy", "test_loss", "test_accuracy"),
    *("contributors", "seconds", "bytes_sent", *STEPS),
)
_PRIVACY = (
    *("epsilon", "epsilon_of_one_update", "delta", "clip", "rounds", "contributors_counted"),
    *("noise_per_hospital", "noise_per_round", "scaling"),
)
_CRYPTO = ("key_bits", "slots_per_ciphertext", "ciphertexts_per_update", "bytes_per_update")
_LIMIT = 1e300


class MetricsError(FlHeError):
    """Metrics, or a run folder, that break the contract."""


def check_metrics(metrics: object) -> None:
    """Refuse metrics that break the contract.

    Parameters
    ----------
    metrics : object
        As decoded from JSON.

    Raises
    ------
    MetricsError
        With the place of the first thing that is wrong.
    """
    top = _mapping(metrics, "metrics")
    version = top.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise MetricsError(f"version must be {VERSION}, got {version!r}")
    _text(top, "fl_he", "fl_he")
    config = _mapping(top.get("config"), "config")
    _check_origin(top)
    if top.get("protocol") == CAPC:
        _check_capc(top)
        return
    _text(_mapping(config.get("data"), "config.data"), "name", "config.data.name")
    _text(config, "topology", "config.topology")
    _numbers(config, ("hospitals",), "config", optional=False)
    for key in ("local", "pooled"):
        if key not in top:
            raise MetricsError(f"{key} must be given, if only as null, got nothing")
    if top["local"] is not None:
        for index, entry in enumerate(_list(top, "local", "local")):
            where = f"local[{index}]"
            _numbers(_mapping(entry, where), ("examples", *FIGURES), where)
            _text(entry, "hospital", f"{where}.hospital")
    _model(top, "federated")
    if top["pooled"] is not None:
        _model(top, "pooled")
    rounds = _list(top, "rounds", "rounds")
    if not rounds:
        raise MetricsError("rounds must have at least one entry, got none")
    for index, entry in enumerate(rounds):
        where = f"rounds[{index}]"
        _numbers(_mapping(entry, where), _ROUND, where)
        _numbers(entry, ("round",), where, optional=False)
        _check_hops(entry, where)
    crypto = _mapping(top.get("crypto"), "crypto")
    _text(crypto, "key_fingerprint", "crypto.key_fingerprint")
    _numbers(crypto, _CRYPTO, "crypto", optional=False)
    # Runs of earlier releases had none of these.
    for key, check in (
        ("inference", _inference),
        ("evaluation", _evaluation),
        ("privacy", _privacy),
    ):
        if top.get(key) is not None:
            check(_mapping(top[key], key))
    _numbers(top, ("seconds",), "")
    if "start_seconds" in top:  # runs of earlier releases did not measure it
        _numbers(top, ("start_seconds",), "")


def _check_origin(top: Mapping[str, Any]) -> None:
    """Check what runs of earlier releases did not say of themselves."""
    for name, value in _mapping(top.get("software", {}), "software").items():
        if not isinstance(value, str):
            raise MetricsError(f"software.{name} must be text, got {type(value).__name__}")
    if "ended" in top:
        _text(top, "ended", "ended")
    if not isinstance(top.get("simulated", False), bool):
        raise MetricsError("simulated must be true or false, got another")
    for key in ("feature_names", "classes"):
        for index, name in enumerate(_list({key: top.get(key, [])}, key, key)):
            if not isinstance(name, str):
                raise MetricsError(f"{key}[{index}] must be text, got {type(name).__name__}")


def _check_hops(entry: Mapping[str, Any], where: str) -> None:
    """Check the hops of a round; rounds of earlier releases kept none."""
    for at, hop in enumerate(_list({"hops": entry.get("hops", [])}, "hops", f"{where}.hops")):
        place = f"{where}.hops[{at}]"
        _text(_mapping(hop, place), "node", f"{place}.node")
        _text(hop, "action", f"{place}.action")
        _numbers(hop, ("seconds",), place, optional=False)
        if not isinstance(hop.get("failed"), bool):
            raise MetricsError(f"{place}.failed must be true or false, got another")


def _check_capc(top: Mapping[str, Any]) -> None:
    if not isinstance(top.get("encrypted"), bool):
        raise MetricsError("encrypted must be true or false, got another")
    for index, result in enumerate(_list(top, "querying", "querying")):
        where = f"querying[{index}]"
        _text(_mapping(result, where), "party", f"{where}.party")
        _numbers(result, ("queries",), where, optional=False)
        # the others a deployed party tells nobody
        _numbers(result, ("answered", "refused", "examples"), where)
        _numbers(result, ("label_accuracy", "equal_to_plain_majority"), where)
        # a deployed party tells neither, and nobody one of them
        if not (result.get("before", "") is None and result.get("after", "") is None):
            for when in ("before", "after"):
                _check_quality(result.get(when), f"{where}.{when}")
    privacy = _mapping(top.get("privacy"), "privacy")
    _numbers(privacy, ("epsilon",), "privacy")
    _numbers(privacy, ("delta", "queries"), "privacy", optional=privacy["epsilon"] is None)
    if top.get("analysis") is not None:
        analysis = _mapping(top["analysis"], "analysis")
        _numbers(analysis, ("epsilon_by_votes",), "analysis", optional=False)
        if analysis.get("releasable") is not False:
            raise MetricsError("analysis.releasable must be false, got another")
    for index, step in enumerate(_list(top, "steps", "steps")):
        where = f"steps[{index}]"
        _text(_mapping(step, where), "step", f"{where}.step")
        _numbers(step, ("hops", "seconds", "node_seconds", "bytes_sent"), where, optional=False)
    # Runs of earlier releases had neither.
    for index, key in enumerate(_list({"keys": top.get("keys", [])}, "keys", "keys")):
        for name in ("owner", "paillier", "dgk"):
            _text(_mapping(key, f"keys[{index}]"), name, f"keys[{index}].{name}")
    if top.get("agreement") is not None:
        _text(top, "agreement", "agreement")
    _numbers(top, ("seconds",), "", optional=False)


def _check_quality(found: object, where: str) -> None:
    quality = _mapping(found, where)
    _numbers(quality, ("accuracy", "balanced_accuracy"), where)
    shares = _list(quality, "per_class_accuracy", f"{where}.per_class_accuracy")
    for label, share in enumerate(shares):
        if share is not None:  # a class without a case
            _number(share, f"{where}.per_class_accuracy[{label}]")


def _inference(inference: Mapping[str, Any]) -> None:
    _numbers(inference, ("level",), "inference", optional=False)
    if not isinstance(inference.get("penalised"), bool):
        raise MetricsError("inference.penalised must be true or false, got another")
    for index, entry in enumerate(_list(inference, "coefficients", "inference.coefficients")):
        where = f"inference.coefficients[{index}]"
        _numbers(_mapping(entry, where), INFERENCE, where)
        _text(entry, "name", f"{where}.name")


def _evaluation(evaluation: Mapping[str, Any]) -> None:
    _numbers(evaluation, ("examples", "hospitals", *FIGURES, "calibration_error"), "evaluation")


def _privacy(privacy: Mapping[str, Any]) -> None:
    _numbers(privacy, _PRIVACY, "privacy", optional=False)
    _numbers(privacy, ("epsilon_towards_a_hospital", "noise_of_scaling"), "privacy")
    for key in ("mechanism", "neighbours"):
        _text(privacy, key, f"privacy.{key}")
    for index, text in enumerate(_list(privacy, "not_covered", "privacy.not_covered")):
        if not isinstance(text, str):
            raise MetricsError(f"privacy.not_covered[{index}] must be text")
    if "without" not in privacy:
        raise MetricsError("privacy.without must be figures or null, got nothing")
    if privacy["without"] is not None:
        _numbers(_mapping(privacy["without"], "privacy.without"), FIGURES, "privacy.without")


def _model(top: Mapping[str, Any], name: str) -> None:
    model = _mapping(top.get(name), name)
    _numbers(model, ("examples", *FIGURES), name)
    if "C" in model:  # of scikit-learn's; runs of earlier releases did not say
        _numbers(model, ("C",), name, optional=False)
    if isinstance(model.get("intercept"), list):
        _vector(model, "intercept", name)
        for index, row in enumerate(_list(model, "coefficients", f"{name}.coefficients")):
            _vector({f"coefficients[{index}]": row}, f"coefficients[{index}]", name)
        return
    _numbers(model, ("intercept",), name)
    _vector(model, "coefficients", name)


def _vector(mapping: Mapping[str, Any], key: str, where: str) -> None:
    for index, value in enumerate(_list(mapping, key, f"{where}.{key}")):
        _number(value, f"{where}.{key}[{index}]")


def _numbers(
    mapping: Mapping[str, Any], keys: Sequence[str], where: str, *, optional: bool = True
) -> None:
    for key in keys:
        place = f"{where}.{key}" if where else key
        if key not in mapping:
            raise MetricsError(f"{place} must be a number, got nothing")
        if not (optional and mapping[key] is None):
            _number(mapping[key], place)


def _number(value: object, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetricsError(f"{place} must be a number, got {type(value).__name__}")
    if not -_LIMIT < value < _LIMIT:
        raise MetricsError(f"{place} must be between -{_LIMIT:g} and {_LIMIT:g}, got another")


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise MetricsError(f"{place} must be an object, got {type(value).__name__}")
    return value


def _list(mapping: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = mapping.get(key)
    if not isinstance(value, list):
        raise MetricsError(f"{place} must be a list, got {type(value).__name__}")
    return value


def _text(mapping: Mapping[str, Any], key: str, place: str) -> None:
    if not isinstance(mapping.get(key), str):
        raise MetricsError(f"{place} must be text, got {type(mapping.get(key)).__name__}")
