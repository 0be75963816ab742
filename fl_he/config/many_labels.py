"""Rules of a run of CaPC that gives each case several labels."""

from __future__ import annotations

from collections.abc import Iterator

from fl_he.config.capc import MOST_LABELS, MOST_OF_A_POWERSET, Backend, Voting
from fl_he.config.groups import BUILT_IN
from fl_he.config.run import Config
from fl_he.errors import written


def many_labels(config: Config) -> Iterator[str]:
    """Refuse settings with which no case can get several labels."""
    capc, data = config.capc, config.data
    tau, powerset = capc.voting is Voting.tau, capc.voting is Voting.powerset
    if (capc.voting is Voting.single) is bool(capc.labels):
        yield (
            "capc.labels must name columns with capc.voting=binary, tau or powerset, and with "
            f"nothing else, got capc.voting={capc.voting} and {len(capc.labels)} names"
        )
    if tau is (capc.tau is None):
        yield (
            "capc.tau must be set with capc.voting=tau, and with nothing else, got "
            f"{written(capc.tau)} with capc.voting={capc.voting}"
        )
    if tau and capc.backend is not Backend.plain:
        yield (
            "capc.voting=tau must come with capc.backend=plain: clipping depends on all labels of "
            "a case, and no encrypted step clips; capc.voting=binary needs no clipping"
        )
    if tau and capc.threshold is not None:
        yield "capc.threshold must be null with capc.voting=tau: half of the parties decide"
    if not capc.labels:
        return
    labels = len(capc.labels)
    most = MOST_OF_A_POWERSET if powerset else MOST_LABELS
    if not 2 <= labels <= most or len(set(capc.labels)) < labels:
        yield (
            f"capc.labels must be 2 to {most} different columns with capc.voting={capc.voting}, "
            f"got {labels} of which {len(set(capc.labels))} differ"
        )
    refused = (
        ("data", data.name in BUILT_IN, "csv", "the labels are columns of a table of your own"),
        ("data.target", data.target is not None, "null", "the columns of labels are the outcome"),
        ("data.schema", data.schema is not None, "null", "a schema has one outcome"),
        ("data.classes", bool(data.classes), "left out", "a label has two classes"),
        ("data.family", data.family is not None, "null", "a label has two classes"),
        ("capc.weak_classes", bool(capc.weak_classes), "left out", "a class is no label"),
        (
            *("capc.selection", capc.selection not in ("random", "k_center"), "random or k_center"),
            "a case is asked about for all labels",
        ),
        (
            *("capc.models", any(kind.startswith("network:") for kind in capc.models)),
            *("kinds that are trained here", "a network in a file has one label"),
        ),
    )
    for key, wrong, needed, reason in refused:
        if wrong:
            yield f"{key} must be {needed} with capc.labels: {reason}"
