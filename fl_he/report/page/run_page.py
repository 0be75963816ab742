"""The page of a training run: which sections it has, and what is in each.

The model's coefficients, by the names of the features.

The hops of a run: who was asked, how often, and how long the answer took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from fl_he.report.figures import count, data_name, decimal, known, mean, seconds, short
from fl_he.report.page.blocks import Block, Charts, Facts, Note, Page, Points, Row, Section, Sheet
from fl_he.report.page.charts import Curve, bar_chart, line_chart
from fl_he.report.page.visibility import is_simulated, visibility
from fl_he.report.settings import flat_settings, setting_text
from fl_he.report.tables.comparison import (
    FEDERATED,
    LOCAL,
    POOLED,
    compared_models,
    penalty_note,
)
from fl_he.report.tables.cost import costs, update_size
from fl_he.report.tables.privacy import privacy_facts
from fl_he.run_files.divergence import hint

#: Rows of the table; a model of more is in model.json alone.
_ROWS = 1000
_TITLE = "Coefficients"


def coefficients(metrics: Mapping[str, Any]) -> Section:
    """Return the section of a logistic or softmax model.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    federated, inference = metrics["federated"], metrics.get("inference")
    if not federated["coefficients"]:
        return Section(_TITLE, [Note("Only the hospitals have the model: see their own files.")])
    if len(federated["coefficients"]) > _ROWS:
        return Section(_TITLE, [Note("The model has too many coefficients: see model.json.")])
    if isinstance(federated["intercept"], list):
        return Section(_TITLE, _by_class(metrics))
    if inference is None:
        names = feature_names(metrics, len(federated["coefficients"]))
        rows = zip(names, federated["coefficients"], strict=True)
        sheet = Sheet(
            "In the units of each hospital's scaled features",
            ("feature", "estimate"),
            [
                *(Row((name, short(value))) for name, value in rows),
                Row(("intercept", short(federated["intercept"]))),
            ],
        )
        return Section(_TITLE, [sheet])
    return Section(_TITLE, _inferred(inference))


def feature_names(metrics: Mapping[str, Any], features: int) -> Sequence[str]:
    """Return the features' names; numbers in their place where an earlier release kept none."""
    names: Sequence[str] | None = metrics.get("feature_names")
    if names is None or len(names) != features:
        return [f"feature {number}" for number in range(1, features + 1)]
    return names


def _inferred(inference: Mapping[str, Any]) -> list[Block]:
    rows = inference["coefficients"]
    penalty = ", penalised" if inference["penalised"] else ""
    caption = f"In the tables' units{penalty}"
    about = (
        "An odds ratio is that of one standard deviation more, if features are scaled; that of "
        "the intercept is the odds where all features are 0."
    )
    if not known(rows, "standard_error"):
        sheet = Sheet(
            caption,
            ("feature", "estimate", "odds ratio"),
            [Row((row["name"], short(row["estimate"]), short(row["odds_ratio"]))) for row in rows],
        )
        unknown = "Standard errors need the pooled Hessian: optimizer=newton."
        return [sheet, Note(f"{about} {unknown}")]
    keys = (
        *("estimate", "standard_error", "z", "p_value"),
        *("odds_ratio", "odds_ratio_lower", "odds_ratio_upper"),
    )
    sheet = Sheet(
        caption,
        (
            *("feature", "estimate", "std. error", "z", "p", "odds ratio"),
            *("its lower bound", "its upper bound"),
        ),
        [Row((row["name"], *(short(row[key]) for key in keys))) for row in rows],
    )
    return [sheet, Note(f"{about} Its bounds are those of a {inference['level']:.0%} interval.")]


def _by_class(metrics: Mapping[str, Any]) -> list[Block]:
    """One column for each class; the rows of the metrics are classes."""
    federated = metrics["federated"]
    names = feature_names(metrics, len(federated["coefficients"][0]))
    labels = metrics.get("classes") or [f"class {n}" for n, _ in enumerate(federated["intercept"])]
    by_feature = zip(names, zip(*federated["coefficients"], strict=True), strict=True)
    rows = [Row((name, *map(short, values))) for name, values in by_feature]
    return [
        Sheet(
            "Of the scaled features, by class",
            ("feature", *labels),
            [*rows, Row(("intercept", *map(short, federated["intercept"])))],
        )
    ]


#: Nodes that the table lists; of more, the slowest.
_SLOWEST = 25


def hops(rounds: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of hops; nothing of a run of an earlier release, which kept none.

    Parameters
    ----------
    rounds : sequence of mapping
        Entries of ``rounds`` in metrics.json.
    """
    times: dict[str, list[float]] = defaultdict(list)
    failed: dict[str, int] = defaultdict(int)
    for entry in rounds:
        for hop in entry.get("hops", ()):
            times[hop["node"]].append(hop["seconds"])
            failed[hop["node"]] += hop["failed"]
    if not times:
        return []
    slowest = sorted(times, key=lambda node: -max(times[node]))
    rows = [
        Row(
            (
                node,
                count(len(times[node])),
                seconds(median(times[node])),
                seconds(max(times[node])),
                count(failed[node]),
            )
        )
        for node in sorted(slowest[:_SLOWEST])
    ]
    blocks: list[Block] = [
        Sheet(
            "Hops: seconds from a message to its answer",
            ("node", "hops", "median", "longest", "failed"),
            rows,
        )
    ]
    if len(times) > _SLOWEST:
        blocks.append(Note(f"The {_SLOWEST} slowest of {len(times)} nodes."))
    return blocks


#: Settings of another protocol, which a training run does not read.
_OTHERS = ("capc.",)
#: Colours of the alternatives, the same in every plot.
_OURS, _ALONE, _ALL = 1, 2, 3


def run_page(metrics: Mapping[str, Any]) -> Page:
    """Return the page of a training run.

    Parameters
    ----------
    metrics : mapping
        As :func:`fl_he.run_files.metrics.read_metrics` returns them.
    """
    config = metrics["config"]
    diverges = hint(metrics["rounds"])
    return Page(
        title=f"{data_name(config)}, {count(config['hospitals'])} hospitals",
        subtitle=_subtitle(metrics),
        tiles=_tiles(metrics),
        notes=[Note(f"Warning: {diverges}", warning=True)] if diverges else [],
        sections=[
            _quality(metrics),
            _rounds(metrics),
            coefficients(metrics),
            visibility(metrics),
            _privacy(metrics),
            _cost(metrics),
            configuration(metrics, without=_OTHERS),
            versions(metrics),
        ],
    )


def _subtitle(metrics: Mapping[str, Any]) -> str:
    config = metrics["config"]
    how = "sealed chain" if config.get("sealed") else config["topology"]
    optimizer = (config.get("optimizer") or {}).get("name", "gd")
    kind = "Simulated" if is_simulated(metrics) else "Deployed"
    return f"{kind} federation, {how}, {optimizer}, {metrics['crypto']['key_bits']}-bit Paillier"


def _tiles(metrics: Mapping[str, Any]) -> dict[str, str]:
    federated, pooled = metrics["federated"], metrics["pooled"] or {}
    rounds, privacy = metrics["rounds"], metrics.get("privacy")
    tiles = {}
    if federated["accuracy"] is not None:
        tiles["accuracy on the test set"] = decimal(federated["accuracy"])
    if pooled.get("accuracy") is not None:
        tiles["of pooled data"] = decimal(pooled["accuracy"])
    if privacy:
        tiles["epsilon"] = f"{privacy['epsilon']:.3g}"
    tiles["rounds"] = count(len(rounds))
    if rounds[-1]["contributors"] is not None:
        tiles["hospitals in the last total"] = count(rounds[-1]["contributors"])
    tiles["bytes in one update"] = count(metrics["crypto"]["bytes_per_update"])
    return tiles


def _quality(metrics: Mapping[str, Any]) -> Section:
    tested = metrics["federated"]["accuracy"] is not None
    blocks: list[Block] = []
    if not tested and not metrics.get("evaluation"):
        blocks.append(
            Note(
                "Nobody holds test data, so no figure of quality is known. The model was "
                "compared with nothing."
            )
        )
    else:
        blocks.append(
            Sheet(
                "On the held-out test set",
                ("model", "examples", "accuracy", "balanced accuracy", "ROC AUC", "log loss"),
                [Row((m.name, *m.cells), strong=m.ours) for m in compared_models(metrics)],
            )
        )
    if note := penalty_note(metrics):
        blocks.append(Note(note))
    if evaluation := metrics.get("evaluation"):
        blocks.append(
            Note(
                f"The encrypted counts are of {count(evaluation['examples'])} held-out examples of "
                f"{count(evaluation['hospitals'])} hospitals, whose calibration error is "
                f"{decimal(evaluation['calibration_error'])}."
            )
        )
    return Section("Comparison", blocks)


def _rounds(metrics: Mapping[str, Any]) -> Section:
    rounds = metrics["rounds"]
    places = [entry["round"] for entry in rounds]
    skipped = [
        f"round {entry['round']}: without {', '.join(map(str, entry['skipped']))}"
        for entry in rounds
        if entry.get("skipped")
    ]

    def of(key: str) -> list[float | None]:
        return [entry.get(key) for entry in rounds]

    def against(level: str) -> list[Curve]:
        alone = mean(known(metrics["local"] or [], level))
        pooled = (metrics["pooled"] or {}).get(level)
        return [
            Curve(LOCAL, [alone], _ALONE, level=True),
            Curve(POOLED, [pooled], _ALL, level=True),
        ]

    if known(rounds, "test_loss"):
        quality = [
            line_chart(
                "Accuracy on the test set",
                places,
                [Curve(FEDERATED, of("test_accuracy"), _OURS), *against("accuracy")],
            ),
            line_chart(
                "Log loss on the test set",
                places,
                [Curve(FEDERATED, of("test_loss"), _OURS), *against("log_loss")],
            ),
        ]
    else:
        quality = [
            line_chart(
                "Accuracy on the hospitals' data",
                places,
                [Curve("from the encrypted totals", of("accuracy"), _OURS)],
            ),
            line_chart(
                "Log loss on the hospitals' data",
                places,
                [Curve("from the encrypted totals", of("loss"), _OURS)],
            ),
        ]
    drawn = [
        *quality,
        line_chart(
            "Norm of the gradient",
            places,
            [Curve("before the step", of("gradient_norm"), _OURS)],
            logarithmic=True,
        ),
        bar_chart("Seconds per round", places, [Curve("wall time", of("seconds"), _OURS)]),
    ]
    blocks: list[Block] = [Charts([chart for chart in drawn if chart is not None])]
    if rounds[-1].get("converged"):
        blocks.append(Note("Training stopped when the gradient's norm was within tolerance."))
    elif not metrics.get("privacy") and (norm := rounds[-1].get("gradient_norm")) is not None:
        blocks.append(
            Note(
                f"Training ended before it converged: the gradient's norm was {norm:.3g} in the "
                "last round. More rounds, or optimizer=newton, come nearer to the optimum."
            )
        )
    if skipped:
        blocks += [Note("Hospitals that were asked and are not in the total:"), Points(skipped)]
    return Section("Round by round", blocks)


def _privacy(metrics: Mapping[str, Any]) -> Section:
    privacy = metrics.get("privacy")
    if not privacy:
        return Section(
            "Privacy of the patients",
            [
                Note(
                    "No differential privacy: encryption hides single updates, but the totals "
                    "and the model are exact, and nothing bounds what they say about one patient. "
                    "privacy=gaussian would."
                )
            ],
        )
    facts = privacy_facts(privacy)
    del facts["not covered"]
    return Section(
        "Privacy of the patients",
        [
            Facts({"mechanism": privacy["mechanism"], **facts}),
            Note("Not covered:"),
            Points(privacy["not_covered"]),
        ],
    )


def _cost(metrics: Mapping[str, Any]) -> Section:
    size, slots = update_size(metrics)
    blocks: list[Block] = [
        Sheet(
            "Seconds by step, and bytes both ways",
            ("", "mean per round", "total"),
            [Row((line.name, line.per_round, line.total)) for line in costs(metrics)],
        ),
        Note(
            f"{size.capitalize()}; {slots}. Seconds to encrypt and to add are summed over all who "
            "did, and may be more than the wall time of a round."
        ),
    ]
    blocks += hops(metrics["rounds"])
    return Section("Cost of the encryption", blocks)


def configuration(metrics: Mapping[str, Any], without: tuple[str, ...] = ()) -> Section:
    """List all settings but those that begin with one of the given prefixes."""
    flat = flat_settings(metrics["config"])
    shown = {key: setting_text(value) for key, value in flat.items() if not key.startswith(without)}
    return Section("Configuration", [Facts(shown, dense=True)])


def versions(metrics: Mapping[str, Any]) -> Section:
    """Say what made the run, and the fingerprints of its public keys."""
    facts = {"fl-he": metrics["fl_he"], **metrics.get("software", {})}
    if metrics.get("ended"):
        facts["ended"] = metrics["ended"]
    if crypto := metrics.get("crypto"):
        facts["public key"] = f"{crypto['key_bits']} bits, fingerprint {crypto['key_fingerprint']}"
    for key in metrics.get("keys", ()):
        facts[f"keys of {key['owner']}"] = f"Paillier {key['paillier']}, DGK {key['dgk']}"
    if metrics.get("agreement"):
        facts["agreement"] = metrics["agreement"]
    return Section("Versions and keys", [Facts(facts)])
