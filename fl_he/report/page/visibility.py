"""Visibility of data, updates, total and model in a run, by its topology: README's table."""

from __future__ import annotations

from fl_he.report.blocks import Block, Note, Points, Row, Section, Sheet
from fl_he.report.figures import family, of_number, of_time, optimizer_name, others_of
from fl_he.run_files.metrics import Metrics
from fl_he.run_files.metrics_contract import NEGATIVE_BINOMIAL

_OBJECTS = ("a hospital's data", "one hospital's update", "the total", "the model")
_CAPTIONS = {
    "fold": "Where the coordinator adds the updates (topology fold)",
    "chain": "Where each hospital adds its update to the sum of those before it (topology chain)",
    "sealed": "In a sealed chain, whose sums the coordinator cannot read",
}
#: How company X would come to know one hospital's update.
_COLLUSION = {
    "fold": "unless it colludes with the coordinator",
    "chain": "unless it colludes with the coordinator, or with the hospital's neighbours (the "
    "first and the last have only one)",
    "sealed": "unless it colludes with the hospital's neighbours (the first and the last have only "
    "one), or with a coordinator that falsely reports a hospital as failed",
}
_SIMULATION = (
    "This run was a simulation. All of its nodes shared one machine and one user, so it "
    "provided no isolation: the table is of a federation in which each node has its own machine."
)
_HONEST = (
    "{} are taken to be honest but curious: they follow the protocol and try to learn from what "
    "they see."
)
_LYING = (
    " The nodes had a study plan, so the coordinator's row holds also if it lied, by messages that "
    "the protocol does not have."
)


def visibility(metrics: Metrics) -> Section:
    """Say who could see what in a training run."""
    config = metrics["config"]
    sealed = bool(config.get("sealed"))
    topology = "sealed" if sealed else config["topology"]
    own = "no" if sealed else "yes"
    update = "no: it routes envelopes that it cannot read" if sealed else "no: ciphertexts only"
    masked_set = (metrics.get("crypto") or {}).get("masked_set")
    collusion = _COLLUSION.get(topology, _COLLUSION["chain"])
    if masked_set:
        collusion = (
            f"unless it colludes with {others_of(masked_set)} (their updates are masked pairwise: "
            "with the coordinator and fewer hospitals it learns sums of at least two of the others)"
        )
    rows = (
        ("that hospital", "yes", "yes", "yes", "yes"),
        ("another hospital", "no", "no, unless all other hospitals collude", "yes", "yes"),
        ("coordinator", "no", update, own, own),
        ("company X (key holder)", "no", f"no, {collusion}", "yes", "yes"),
    )
    caption = _CAPTIONS.get(topology, _CAPTIONS["chain"])
    sheet = Sheet(caption, ("", *_OBJECTS), list(map(Row, rows)), text=True)
    blocks: list[Block] = [sheet, Note(_trust(metrics))]
    if is_simulated(metrics):
        blocks.insert(0, Note(_SIMULATION, warning=True))
    if sealed:
        blocks += [Note("What the coordinator knows of this run:"), Points(_SEALED_KNOWLEDGE)]
    else:
        blocks += [Note("What was opened, and so is known as a total:"), Points(opened(metrics))]
    return Section("Who could see what", blocks)


def _trust(metrics: Metrics) -> str:
    """Say who is taken to follow the protocol."""
    config = metrics["config"]
    if is_simulated(metrics) or config.get("plan") is None:
        return _HONEST.format("All parties")
    return _HONEST.format("Hospitals and company X") + _LYING


_SEALED_KNOWLEDGE = (
    "names of the hospitals and of their features, and who took part in which round",
    "sizes and times of all messages",
    "the configuration, the model from which the hospitals started, and company X's public key",
    "no ciphertext of an update, no total, no model, no loss and no accuracy: those figures are "
    "empty in this report, and each hospital has its own model file",
)


def _likelihood_sums(metrics: Metrics) -> list[str]:
    """List the sums of Firth's penalty and of profile likelihoods, and what hospitals learn."""
    config, profile = metrics["config"], (metrics.get("inference") or {}).get("profile")
    firth, sums = config.get("penalty") == "firth", []
    if firth:
        sums.append(
            "each round: the derivatives of Firth's penalty; for them the hospitals are sent a "
            "root of the inverse of the pooled Hessian, so they learn the estimates' covariance"
        )
    if profile and profile["iterations"]:
        more = ", and the same of Firth's penalty" if firth else ""
        sums.append(
            "after the last round: loss, gradient and Hessian at the models of the search for "
            f"profile likelihood intervals, which the hospitals learn too{more}"
        )
    return sums


def is_simulated(metrics: Metrics) -> bool:
    """Return whether a run was a simulation; earlier releases say so by what they compare with."""
    return bool(metrics.get("simulated", bool(metrics.get("local"))))


def _outcome_sums(metrics: Metrics) -> list[str]:
    """List the sums of an outcome that is a number."""
    if of_time(metrics):
        return ["once: the share of patients with the event; the hospitals learn it too"]
    if not of_number(metrics):
        return []
    sums = [
        "once: the mean of the outcome, of its square, and of two functions of it that log "
        "likelihood and deviance need; the hospitals learn the mean too"
    ]
    if metrics.get("exposure"):
        sums.append(
            "once: the sum of the exposures, or with family gamma the mean of each outcome divided "
            "by its exposure. The squares above are divided by the exposures. The hospitals also "
            "learn the mean outcome for an exposure of 1"
        )
    return sums


def opened(metrics: Metrics) -> list[str]:
    """List the sums that company X opened in an open run, in words."""
    config = metrics["config"]
    private = (config.get("privacy") or {}).get("name") == "gaussian"
    figure = "Pearson's chi-square" if of_number(metrics) else "the accuracy"
    if of_time(metrics):
        figure = "sums of residuals and variances at the events, weighted by log(1 + time),"
    sums = [
        "each round: the noisy sum of clipped gradients and the number of contributors"
        if private
        else f"each round: the gradient, the loss and {figure} of the pooled data, the numbers of "
        "patients and of contributors"
    ]
    if optimizer_name(metrics) == "newton":
        sums.append("each round: the Hessian, so second moments of the features")
    if config.get("site_intercepts"):
        sums.append(
            "each round: the number of hospitals with a finite intercept, and the number of "
            "patients in the other hospitals. Other hospitals with fewer than min_cell patients "
            "are not counted in it. Loss, gradient and Hessian are at each hospital's best "
            "intercept, which does not leave the hospital"
        )
    if family(metrics) == NEGATIVE_BINOMIAL:
        sums.append(
            "each round: the derivatives by the logarithm of alpha, and loss, gradient and Hessian "
            "of the model without features; the hospitals learn both models' alpha"
        )
    sums += _likelihood_sums(metrics)
    about_the_mean = optimizer_name(metrics) == "newton" and config.get("scaling") != "local"
    if config.get("scaling") == "federated" or about_the_mean:
        sums.append(
            "once: noisy sums of every feature, clipped to its range, and of its square; the "
            "hospitals learn the noisy means and scales"
            if private
            else "once: mean and variance of every feature, which the hospitals learn too"
        )
    if imputed := metrics.get("imputed"):
        means = ", ".join(f"{name} {mean:.6g}" for name, mean in imputed.items())
        sums.append(
            "once: the sum and the number of the present cells of each column with missing: mean. "
            f"The hospitals also learn the means: {means}"
        )
    sums += _outcome_sums(metrics)
    if config.get("class_weight") == "balanced":
        sums.append("once: the sizes of the classes")
    if (metrics.get("diagnostics") or {}).get("separation"):
        sums.append(
            "once, to company X alone: how many patients a model puts on the wrong side, and how "
            "many on its border. Company X tells the coordinator only whether each count is 0"
        )
    if ((metrics.get("inference") or {}).get("sites") or {}).get("clusters") is not None:
        sums.append(
            "once, to company X: from each hospital's own estimates the sums of weights and of "
            "weighted estimates, and from each hospital's gradient the sum of outer products. "
            "Company X gives the first two to the coordinator and the hospitals if at least "
            "min_contributors hospitals have estimates of their own, and the last if ten hospitals "
            "are in the sum"
        )
    if config.get("evaluate"):
        sums.append(_evaluated(metrics))
    return sums


def _evaluated(metrics: Metrics) -> str:
    """Say who learned what from the counts on held-out patients."""
    evaluation = metrics.get("evaluation") or {"min_cell": None}
    if "min_cell" not in evaluation:  # an earlier release
        return "once: counts of right and wrong predictions on held-out patients, in fine bins"
    least = evaluation["min_cell"]
    fewer = "fewer patients than its min_cell" if least is None else f"1 to {least - 1} patients"
    if of_number(metrics):
        return (
            "once, to company X alone: held-out patients with an outcome of 0 and others, and sums "
            "of their expected and observed outcomes, in fine bins of the expected outcome. "
            "Company X gives the coordinator the means in bins of a tenth of the patients or more, "
            f"merged until no count in them is of {fewer}. Hospitals get none of it"
        )
    return (
        "once, to company X alone: held-out patients, counted in fine bins of score by class. "
        "Company X gives the coordinator ROC AUC, Brier score, log loss, calibration error, and "
        "accuracy, confusion matrix and a calibration table of merged bins as far as no count in "
        f"them is of {fewer}. Hospitals get none of it"
    )
