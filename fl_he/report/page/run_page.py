"""The page of a training run."""

from __future__ import annotations

from itertools import chain

from fl_he.report.blocks import Block, Facts, Note, Page, Points, Section, Sheet
from fl_he.report.figures import (
    count,
    data_name,
    encryption,
    incomplete_rows,
    is_masked,
    model_title,
    of_number,
    optimizer_name,
    sentence,
    setting_text,
)
from fl_he.report.page.coefficients import coefficients
from fl_he.report.page.evaluated import evaluated
from fl_he.report.page.rounds import hops, round_by_round
from fl_he.report.page.visibility import is_simulated, visibility
from fl_he.report.tables.comparison import (
    columns_of,
    compared_models,
    difference_note,
    headlines,
    is_tested,
    others_note,
    tested_on,
)
from fl_he.report.tables.cost import costs, update_size
from fl_he.report.tables.diagnostics import diagnostics
from fl_he.report.tables.privacy import privacy_facts
from fl_he.report.tables.sites import site_columns, site_rows, sites_caption
from fl_he.run_files.convergence import warnings
from fl_he.run_files.metrics import Metrics, flat_settings

#: Settings of another protocol, which a training run does not read.
_OTHERS = ("capc.",)


def run_page(metrics: Metrics) -> Page:
    """Return the page of a training run."""
    return Page(
        title=_title(metrics),
        subtitle=_subtitle(metrics),
        tiles=_tiles(metrics),
        notes=[Note(f"Warning: {one}", warning=True) for one in warnings(metrics)],
        sections=[
            _quality(metrics),
            *filter(None, [evaluated(metrics)]),
            *_trained(metrics),
            visibility(metrics),
            _privacy(metrics),
            _cost(metrics),
            configuration(metrics, without=_OTHERS),
            versions(metrics),
        ],
    )


def _title(metrics: Metrics) -> str:
    """Name the model and its outcome, or its data where nobody told the outcome."""
    outcome = (metrics.get("inference") or {}).get("outcome")
    outcome = outcome or (metrics["config"].get("data") or {}).get("target")
    subject = f"of {outcome}" if outcome else f"on {data_name(metrics['config'])}"
    return model_title(metrics, subject)


def _subtitle(metrics: Metrics) -> str:
    config = metrics["config"]
    how = "sealed chain" if config.get("sealed") else f"topology {config['topology']}"
    kind = "Simulated" if is_simulated(metrics) else "Deployed"
    return (
        f"{data_name(config)}, {count(config['hospitals'])} hospitals. {kind} federation, {how}, "
        f"{optimizer_name(metrics)}, {encryption(metrics)}"
    )


def _tiles(metrics: Metrics) -> dict[str, str]:
    rounds, privacy = metrics["rounds"], metrics.get("privacy")
    tiles = headlines(metrics)
    if privacy:
        tiles["epsilon"] = f"{privacy['epsilon']:.3g}"
    if metrics["federated"]["examples"] is not None:
        tiles["examples trained on"] = count(metrics["federated"]["examples"])
    if (events := (metrics.get("inference") or {}).get("events")) is not None:
        tiles["events among them"] = count(events)
    if left_out := incomplete_rows(metrics):
        tiles["rows left out, as cells are missing"] = left_out
    if rounds[-1]["contributors"] is not None:
        tiles["hospitals in the last total"] = count(rounds[-1]["contributors"])
    tiles["rounds"] = count(len(rounds))
    return tiles


def _quality(metrics: Metrics) -> Section:
    evaluation = metrics.get("evaluation")
    blocks: list[Block] = []
    if not is_tested(metrics) and not evaluation:
        unknown = "Nobody holds test data, so no figure of quality is known."
        if metrics.get("sites"):
            unknown = "No rows are held out, so no figure of quality on new rows is known."
        blocks = [Note(unknown)]
    elif is_tested(metrics) or not of_number(metrics):
        headings = (column.heading.replace("\n", " ") for column in columns_of(metrics))
        rows = compared_models(metrics)
        blocks = [Sheet(tested_on(metrics), ("model", *headings), rows)]
    if rows := site_rows(metrics):
        blocks.append(Sheet(sites_caption(metrics), ("site", *site_columns(metrics)), rows))
    if others := others_note(metrics):
        blocks.append(Note(others))
    if difference := difference_note(metrics):
        blocks.append(Note(sentence(difference)))
    return Section("Comparison", blocks)


def _trained(metrics: Metrics) -> list[Section]:
    """Return rounds, diagnostics and coefficients: with standard errors, these come first."""
    found = [round_by_round(metrics), *filter(None, [diagnostics(metrics)])]
    inferred = metrics.get("inference") or {"withheld": "unknown"}
    if inferred["withheld"] is None:
        return [coefficients(metrics), *found]
    return [*found, coefficients(metrics)]


def _privacy(metrics: Metrics) -> Section:
    title, privacy = "Privacy of the patients", metrics.get("privacy")
    if not privacy:
        none = (
            "No differential privacy: encryption hides single updates, but the totals and the "
            "model are exact, and nothing bounds what they say about one patient. privacy=gaussian "
            "would."
        )
        return Section(title, [Note(none)])
    facts = {"mechanism": privacy["mechanism"], **privacy_facts(metrics)}
    del facts["not covered"]
    return Section(title, [Facts(facts), Note("Not covered:"), Points(privacy["not_covered"])])


def _cost(metrics: Metrics) -> Section:
    size, slots = update_size(metrics)
    caption, headings = "Seconds by step, and data sent both ways", ("", "mean per round", "total")
    note = (
        f"{size[0].upper()}{size[1:]}; {slots}. Seconds to encrypt and to add are summed over all "
        "nodes that did, and may be more than the wall time of a round."
    )
    sheet = Sheet(caption, headings, list(chain(*costs(metrics))))
    return Section("Cost of the encryption", [sheet, Note(note), *hops(metrics["rounds"])])


def configuration(metrics: Metrics, without: tuple[str, ...] = ()) -> Section:
    """List all settings but those that begin with one of the given prefixes."""
    flat = flat_settings(metrics["config"])
    if flat.get("penalty") == "l2" and "C" in flat and flat["C"] is None:
        flat = {**flat, "penalty": "none"}
    shown = {key: setting_text(value) for key, value in flat.items() if not key.startswith(without)}
    return Section("Configuration", [Facts(shown, dense=True)])


def versions(metrics: Metrics) -> Section:
    """Say what made the run, and the fingerprints of its public keys."""
    facts = {"fl-he": metrics["fl_he"], **metrics.get("software", {})}
    if metrics.get("ended"):
        facts["ended"] = metrics["ended"]
    if crypto := metrics.get("crypto"):
        kind = "X-Wing" if is_masked(metrics) else encryption(metrics)
        facts["public key"] = f"{kind}, fingerprint {crypto['key_fingerprint']}"
    for key in metrics.get("keys", ()):
        facts[f"keys of {key['owner']}"] = f"Paillier {key['paillier']}, DGK {key['dgk']}"
    if metrics.get("agreement"):
        facts["agreement"] = metrics["agreement"]
    return Section("Versions and keys", [Facts(facts)])
