"""Rules between settings: values that are right one by one and cannot go together.

Each function yields what it refuses, by subject. The range of a single setting stands with its
type in the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import chain

from fl_he.config.capc import CapcConfig
from fl_he.config.command_line import override
from fl_he.config.constraints import ConfigError, check_fields
from fl_he.config.describing import describing
from fl_he.config.groups import (
    AUTO,
    BUILT_IN,
    CONTINUE,
    FEWEST_MASKING,
    MOST_MASKING,
    PRIVACY,
    Collusion,
    DataConfig,
    Engine,
    PartitionScheme,
)
from fl_he.config.many_labels import many_labels
from fl_he.config.run import ClassWeight, Config, Penalty, Scaling, Topology
from fl_he.errors import written
from fl_he.run_files.metrics_contract import BOUNDED, EXPOSED

#: Bits of one number in a plaintext: sign, integer, fraction and room for the contributors.
SLOT_LIMIT = 64
FIRTH = "penalty=firth"
_NO_AMOUNTS = ("name", "chosen")
#: The optimizers that need noisy gradients alone.
PRIVATE_OPTIMIZERS = (AUTO, "gd", "nesterov")
#: The scalings under which one row has no influence on the others, or one that is accounted for.
PRIVATE_SCALINGS = (Scaling.ranges, Scaling.federated, Scaling.none)


def check(config: Config) -> None:
    """Refuse values that no run could use.

    Raises
    ------
    ConfigError
        With the key, what it must be and the value that it has.
    """
    check_fields(config)
    # Files and a column of sites say the number of hospitals later.
    of_number = () if config.has_unknown_sites else (_segments, _masked, _contributors, _slot)
    subjects = (
        _sites,
        *of_number,
        _test_set,
        _capc,
        many_labels,
        describing,
        _sealed,
        _data,
        _privacy,
        _ranges,
        _likelihood,
        _site_intercepts,
        _simulation,
    )
    refused = next(chain.from_iterable(rules(config) for rules in subjects), None)
    if refused is not None:
        raise ConfigError(refused)


def _segments(config: Config) -> Iterator[str]:
    count, hospitals = config.segments, config.hospitals
    if count != "auto" and not (isinstance(count, int) and 1 <= count <= hospitals):
        yield f"segments must be auto or from 1 to hospitals ({hospitals}), got {count!r}"
    if config.topology is not Topology.chain and count != 1:
        yield f"segments must be 1 unless topology=chain, got {count!r}"


def _masked(config: Config) -> Iterator[str]:
    if config.crypto.collusion is not Collusion.resistant:
        return
    if config.on_dropout == CONTINUE:
        yield (
            "on_dropout must be wait or stop with crypto.collusion=resistant, got continue: "
            "without one hospital no total can be opened"
        )
    # in CaPC the one who asks does not answer
    fewest, note = FEWEST_MASKING + config.capc.enabled, " in CaPC" * config.capc.enabled
    if not fewest <= config.hospitals <= MOST_MASKING:
        yield (
            f"hospitals must be {fewest} to {MOST_MASKING} with "
            f"crypto.collusion=resistant{note}, got {config.hospitals}"
        )


def _test_set(config: Config) -> Iterator[str]:
    if config.test_size == 0 and config.evaluate:
        yield "test_size must be above 0 with evaluate=true, got 0: what is counted is held out"
    if config.test_size == 0 and config.capc.enabled:
        yield "test_size must be above 0 in CaPC, got 0: models are compared before and after"


def _capc(config: Config) -> Iterator[str]:
    capc, hospitals = config.capc, config.hospitals
    if not capc.enabled:
        for key, value in vars(capc).items():
            if value != getattr(CapcConfig(), key):
                yield f"capc.{key} must come with capc.enabled=true, got {written(value)} without"
        return
    if config.sealed or config.resume is not None:
        yield "capc.enabled must be false with sealed or resume, got true"
    if config.plan is not None:
        yield "plan must be null in CaPC, which has its own agreement"
    if config.privacy.name != "none":
        yield (
            f"privacy must be none in CaPC, got {config.privacy.name}: CaPC has a budget of its "
            "own, capc.epsilon"
        )
    if capc.threshold is None and capc.sigma_threshold is not None:
        yield "capc.threshold must be set with capc.sigma_threshold, got null"
    if capc.epsilon is not None and (
        capc.sigma_gnmax is None or (capc.threshold is not None and capc.sigma_threshold is None)
    ):
        yield "capc.epsilon must be null unless all that is released is noisy"
    if not capc.querying or not all(1 <= number <= hospitals for number in capc.querying):
        yield (
            f"capc.querying must hold numbers from 1 to hospitals ({hospitals}), got "
            f"{capc.querying}"
        )
    if len(set(capc.querying)) != len(capc.querying):
        yield f"capc.querying must hold no number twice, got {capc.querying}"
    if hospitals - 1 < config.min_contributors:
        yield (
            f"hospitals must be above min_contributors ({config.min_contributors}) in CaPC, got "
            f"{hospitals}: whoever queries does not answer"
        )


def _sealed(config: Config) -> Iterator[str]:
    if not config.sealed:
        return
    if config.topology is not Topology.chain or config.segments != 1:
        yield (
            "sealed=true must come with topology=chain and segments=1, got "
            f"topology={config.topology} segments={config.segments}"
        )
    if config.scaling is Scaling.federated and config.privacy.name == PRIVACY:
        yield (
            f"scaling must be ranges or none with sealed=true and privacy={PRIVACY}, got federated"
        )
    if config.evaluate:
        yield "evaluate must be false with sealed=true, got true"


def _simulation(config: Config) -> Iterator[str]:
    simulation = config.simulation
    if simulation.ray_address is not None and simulation.engine is not Engine.ray:
        yield (
            f"simulation.ray_address must come with simulation.engine=ray, got "
            f"simulation.engine={simulation.engine} and {simulation.ray_address}"
        )


def _likelihood(config: Config) -> Iterator[str]:
    """Refuse what Firth's penalty, profile likelihoods and tests of groups do not go with."""
    inference = config.inference
    profile = inference.profile
    asked = {
        FIRTH: config.penalty is Penalty.firth,
        "inference.profile": bool(profile),
        "inference.groups": bool(inference.groups),
        "inference.sites": inference.sites,
    }
    setting = next((name for name, given in asked.items() if given), None)
    if setting is None:
        return
    if config.capc.enabled:
        yield f"{setting} must be left out in CaPC, which trains no model"
    classes = BUILT_IN.get(config.data.name, len(config.data.classes))
    if words := two_classes_only(config, classes):
        yield words  # no other change would help
        return
    if config.C is not None:
        end = {
            FIRTH: "Firth's penalty has no strength",
            "inference.profile": "an L2 penalty has no such intervals",
            "inference.groups": "no standard error is given with an L2 penalty",
            "inference.sites": "no standard error is given with an L2 penalty",
        }
        yield f"C must be null with {setting}, got {config.C:g}: {end[setting]}"
    if config.privacy.name != "none":
        yield (
            f"privacy must be none with {setting}, got {config.privacy.name}: its sums are not in "
            "the budget"
        )
    totals = next((name for name, given in asked.items() if given and name != FIRTH), None)
    if config.sealed and totals:
        yield f"sealed must be false with {totals}, got true: the coordinator needs the totals"
    if config.class_weight is not ClassWeight.equal:
        yield (
            f"class_weight must be equal with {setting}, got {config.class_weight}: weighted "
            "losses are no likelihood"
        )
    if config.optimizer.name not in (AUTO, "newton"):
        yield (
            f"optimizer must be auto or newton with {setting}, got {config.optimizer.name}: the "
            "information of all patients is needed"
        )
    if totals and config.scaling is Scaling.local:
        yield (
            f"scaling must be federated, ranges or none with {totals}, got local: each hospital's "
            "own units are nobody else's"
        )
    if inference.sites and config.penalty is Penalty.firth:
        yield "penalty must be l2 with inference.sites, got firth: its sums are of one penalty"
    if len(set(profile)) < len(profile):
        yield f"inference.profile must name no column twice, got {', '.join(profile)}"


def _site_intercepts(config: Config) -> Iterator[str]:
    """Refuse settings with which a hospital cannot have its own intercept."""
    if not config.site_intercepts:
        return
    units = (Scaling.federated, Scaling.ranges, Scaling.none)
    classes = BUILT_IN.get(config.data.name, len(config.data.classes))
    refused = (
        (
            *("test_size", config.test_size > 0, "0"),
            "hospitals' intercepts are of all of their patients, and others have none",
        ),
        ("capc.enabled", config.capc.enabled, "false", "CaPC trains no model"),
        (
            *("privacy", config.privacy.name != "none", "none"),
            "the sums of the intercepts are not in the budget",
        ),
        (
            *("penalty", config.penalty is Penalty.firth, "l2"),
            "Firth's penalty is of one intercept",
        ),
        (
            *("inference.profile", bool(config.inference.profile), "left out"),
            "profile likelihoods are of one intercept",
        ),
        (
            *("class_weight", config.class_weight is not ClassWeight.equal, "equal"),
            "the shares of the classes differ between hospitals",
        ),
        (
            *("optimizer", config.optimizer.name not in (AUTO, "newton"), "auto or newton"),
            "the information of all patients is needed",
        ),
        (
            *("scaling", config.scaling not in units, "federated, ranges or none"),
            "each hospital's own units are nobody else's",
        ),
        (
            *("data.classes", classes > 2, "left out"),
            "the outcome must have two classes, or be a number",
        ),
    )
    for setting, wrong, right, why in refused:
        if wrong:
            yield f"{setting} must be {right} with site_intercepts=true: {why}"


def two_classes_only(config: Config, classes: int) -> str:
    """Refuse Firth's penalty and profile likelihoods for more than two classes; else ""."""
    firth = config.penalty is Penalty.firth
    if classes <= 2 or not (config.inference.profile or firth):
        return ""
    setting = "penalty=firth" if firth else "inference.profile"
    return f"{setting} must be left out for more than two classes, got {classes}"


def _contributors(config: Config) -> Iterator[str]:
    hospitals, most = config.hospitals, config.crypto.contributors(config.hospitals)
    if hospitals < config.min_contributors:
        yield (
            f"hospitals must be at least min_contributors ({config.min_contributors}), got "
            f"{hospitals}: {_exposed(hospitals)}set min_contributors={hospitals} if you accept that"
        )
    if most < hospitals:
        yield f"crypto.max_contributors must be at least hospitals ({hospitals}), got {most}"


def _exposed(hospitals: int) -> str:
    """Say what a total of this many hospitals shows that one of three or more does not."""
    if hospitals > 2:
        return "no total may consist of fewer updates; "
    if hospitals == 2:
        return "with two contributors each could compute the other's update; "
    return "the total of one contributor is its update; "


def _slot(config: Config) -> Iterator[str]:
    crypto = config.crypto
    contributors = crypto.contributors(config.hospitals)
    headroom = (contributors - 1).bit_length()
    most, bits = SLOT_LIMIT - 1 - headroom, crypto.fraction_bits + crypto.integer_bits
    if bits > most:
        yield (
            f"crypto.fraction_bits + crypto.integer_bits must be at most {most} with room for "
            f"{contributors} contributors (crypto.max_contributors, or hospitals), got {bits}"
        )


def _data(config: Config) -> Iterator[str]:
    """Refuse a table that is not described, and a description of a built-in data set."""
    data = config.data
    keys = (
        *("path", "target", "positive", "threshold", "classes", "family", "event", "ties"),
        *("exposure", "drop", "schema", "reading"),
    )
    given = {key: getattr(data, key) for key in keys if getattr(data, key) not in (None, [])}
    if data.name not in BUILT_IN:
        outcome = () if config.capc.labels else ("target",)
        yield from _own_table(data, given.keys(), outcome)
        return
    for key, value in given.items():
        yield (
            f"data.{key} must be left out for data={data.name}, got {written(value)}: "
            f"a table of your own is data=csv data.{key}=..."
        )


def _own_table(data: DataConfig, given: Set[str], outcome: Sequence[str]) -> Iterator[str]:
    described = "schema" in given
    if described and (more := sorted(given - {"path", "schema", "reading"})):
        yield (
            f"{', '.join(f'data.{key}' for key in more)} must be left out with data.schema, which "
            "describes outcome and columns"
        )
    if data.reading and not (described and len(data.reading) == len(data.files)):
        yield (
            "data.reading must come with data.schema and have a name for each file in data.path, "
            f"got {len(data.reading)}"
        )
    for key in ("path",) if described else ("path", *outcome):
        if key not in given:
            yield (
                f"data.{key} must be set for data={data.name}, got null: for example "
                "data=csv data.path=patients.csv data.target=outcome data.positive=yes"
            )
    if data.family == "cox" and not given & {"event", "schema"}:
        yield (
            "data.event=COLUMN must be set with data.family=cox: the column says by 0 and 1 "
            "whether the event was seen"
        )
    for key, families in (("event", ("cox",)), ("ties", ("cox",)), ("exposure", EXPOSED)):
        if key in given and data.family not in families:
            yield f"data.{key} must be left out unless data.family={' or '.join(families)}"
    meanings = given & {"positive", "threshold", "classes", "family"}
    if len(meanings) > 1:
        yield (
            f"at most one of data.positive (the label of {data.target!r} that counts as 1) and "
            f"data.threshold (the number from which on it counts as 1), or data.classes (more "
            f"than two labels), or data.family (of a target that is a number), must be set, got "
            f"{len(meanings)}"
        )
    labels, different = len(data.classes), len(set(data.classes))
    if labels == different == 2:
        second = override("data.positive", data.classes[1])
        yield (
            "data.classes must be at least 3 different labels, got 2: of two, name the one that "
            f"counts as 1, such as {second}"
        )
    elif "classes" in given and (labels < 3 or different < labels):
        yield (
            f"data.classes must be at least 3 different labels, got {labels} of which "
            f"{different} differ"
        )


def _sites(config: Config) -> Iterator[str]:
    """Refuse what does not go together with hospitals that files or a column name."""
    data, partition = config.data, config.partition
    if partition.scheme is not PartitionScheme.column:
        if partition.column is not None:
            yield f"partition.column must come with partition=column, got {partition.column!r}"
        if len(data.files) > 1 and partition.scheme is not PartitionScheme.even:
            yield (
                f"partition must be left out with several files in data.path, got "
                f"{partition.scheme}: each file is a hospital"
            )
    elif partition.column is None:
        yield "partition.column must be set for partition=column, got null: for example site"
    elif data.name in BUILT_IN:
        yield (
            f"partition must be even, uneven or by_label for data={data.name}, got column: a "
            "table of your own with a column of sites is data=csv data.path=FILE"
        )
    elif len(data.files) > 1:
        yield (
            "data.path must be one file with partition=column, got "
            f"{len(data.files)}: each file would be a hospital"
        )
    elif partition.column in (data.target, data.exposure):
        other = "target" if partition.column == data.target else "exposure"
        yield f"partition.column must be another column than data.{other}, got {partition.column!r}"
    if config.sealed and config.names_sites:
        yield (
            "data.path must be one file and partition even, uneven or by_label with sealed=true: "
            "each deployed hospital has its own table"
        )
    if config.capc.enabled and config.names_sites:
        yield (
            "data.path must be one file and partition even, uneven or by_label in CaPC: it "
            "divides one table into pools, a test set and parties"
        )


def _privacy(config: Config) -> Iterator[str]:
    """Refuse a budget without a mechanism, and settings that the budget does not cover."""
    amounts = {key: one for key, one in vars(config.privacy).items() if key not in _NO_AMOUNTS}
    if config.privacy.name == "none":
        given = {f"privacy.{key}": one for key, one in amounts.items() if one is not None}
        given |= {"outcome_bounds": list(config.outcome_bounds)} if config.outcome_bounds else {}
        for key, value in given.items():
            yield f"{key} must come with privacy={PRIVACY}, got {written(value)} without it"
        return
    family = config.data.family
    if family and family not in BOUNDED and not config.describe.enabled:
        yield (
            f"data.family must be {' or '.join(BOUNDED)} with privacy={PRIVACY}, got {family}: no "
            "other model of a number can be trained with differential privacy"
        )
    for key, value in amounts.items():
        if value is None:
            yield f"privacy.{key} must be set with privacy={PRIVACY}, got null"
    if config.scaling not in PRIVATE_SCALINGS:
        yield (
            f"scaling must be {' or '.join(PRIVATE_SCALINGS)} with privacy={PRIVACY}, got "
            f"{config.scaling}: each hospital's own mean and variance are not accounted for; "
            "declare what is publicly known of the features with scaling=ranges ranges=FILE"
        )
    for key, chosen, allowed in (
        ("optimizer.name", config.optimizer.name, PRIVATE_OPTIMIZERS),
        ("class_weight", config.class_weight, (ClassWeight.equal,)),
        ("evaluate", config.evaluate, (False,)),
    ):
        if chosen not in allowed:
            yield (
                f"{key} must be {' or '.join(str(one).lower() for one in allowed)} with "
                f"privacy={PRIVACY}, got {str(chosen).lower()}: what else that releases of the "
                "data is not accounted for"
            )


def _ranges(config: Config) -> Iterator[str]:
    private = config.privacy.name == PRIVACY
    needed = config.scaling is Scaling.ranges or (private and config.scaling is Scaling.federated)
    if (config.ranges is None) is needed:
        yield (
            "ranges=FILE, a CSV file with the columns feature, low and high, or a JSON list of "
            "objects with these members, must come with scaling=ranges, and with "
            f"scaling=federated and privacy={PRIVACY}, and with nothing else, got "
            f"privacy={config.privacy.name} scaling={config.scaling} "
            f"ranges={config.ranges or 'null'}"
        )
