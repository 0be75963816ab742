"""A hospital's learning on its own data: plain, it knows nothing of encryption.

Behind ``encryption_mod`` every reply leaves encrypted; without the mod the same app is an
ordinary Flower app.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from fl_he.atomic import write_new
from fl_he.clients.clipping import Clipping, clipped_gradient, plain_gradient, range_moments
from fl_he.clients.held_out import counts_of_nobody, held_out_counts
from fl_he.clients.row_sums import (
    adjustment_sums,
    derivative_arrays,
    derivative_limbs,
    derivative_parts,
    moment_sums,
    parameters_of,
    site_arrays,
)
from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood, own_intercepts, parameters, separation
from fl_he.learning.regression.disclosure import MIN_CELL
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.negative_binomial import told_alpha
from fl_he.learning.regression.registry import family_of, model_of
from fl_he.learning.tables.columns import too_large
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.scaling import Scaling, standardise
from fl_he.wire.encrypted_sum import (
    ACCURACY,
    FIGURES,
    FINISH,
    FIRTH,
    LOSS,
    MOMENTS,
    NUM_EXAMPLES,
    PROFILE,
    SEPARATION,
    SITES,
)
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import (
    ADJUSTMENTS,
    DERIVATIVES,
    model_arrays,
    named_arrays,
    read_arrays,
    read_models,
    read_parameters,
    read_roots,
    update_content,
)
from fl_he.wire.records import PrivateReasonError, ProtocolError, refused_as


@dataclass(frozen=True, slots=True)
class HospitalData:
    """Training data of a hospital, and the folder of its model.

    Attributes
    ----------
    dataset : Dataset
        In the units of the hospital's table.
    model_path : Path or None
        Where the final model is saved; ``None``: nowhere.
    clipping : Clipping or None
        With it training replies hold clipped gradients, and neither loss nor accuracy.
    limbs : Limbs
        How sums are written that are larger or smaller than the hospital's fixed-point numbers.
    held_out : callable
        Returns what is kept for evaluation, in the units of the hospital's table; ``None``:
        nothing.
    imputed : mapping of str to float
        Means that missing cells got, by the table's columns.
    min_cell : int
        Fewest rows without a part in the coefficients whose number is told, if there are any.
    name : str
        Of the node, for its own log.
    """

    dataset: Dataset
    model_path: Path | None
    clipping: Clipping | None = None
    limbs: Limbs = field(default_factory=lambda: Limbs(24, 24))
    held_out: Callable[[], Dataset | None] = lambda: None
    imputed: Mapping[str, float] = field(default_factory=dict)
    min_cell: int = MIN_CELL
    name: str = "hospital"


_logger = logging.getLogger(__name__)

_Answer = Callable[[RecordDict, HospitalData], RecordDict]
#: Refusal to save a model over another one.
OTHER_RESULT = (
    "model-path in the node configuration must name a new file, and a model or its figures are "
    "there: move them to another folder, since no model is replaced"
)

#: Said in the hospital's own log.
NO_INTERCEPT = (
    "this hospital's outcomes are all of one class, or all counts of 0, so it has no finite "
    "intercept: it has contributed nothing to the coefficients, and its model predicts nothing"
)


def add_hospital(app: ClientApp, data: Callable[[Context], HospitalData]) -> ClientApp:
    """Register the handlers that sum up, train, evaluate and save a model.

    Parameters
    ----------
    app : ClientApp
        It is changed and returned.
    data : callable
        Returns the data of the node that asks.
    """
    for action, answer in ANSWERS.items():
        kind, _, name = action.partition(".")
        register = {"train": app.train, "evaluate": app.evaluate, "query": app.query}[kind]
        (register(name) if name else register())(_handler(answer, data))
    return app


def _handler(answer: _Answer, data: Callable[[Context], HospitalData]) -> ClientAppCallable:
    def handle(message: Message, context: Context) -> Message:
        hospital = data(context)
        means = means_of(message.metadata.message_type, message.content, hospital.dataset)
        if means is not None:
            hospital = _completed(hospital, means)
        return Message(answer(message.content, hospital), reply_to=message)

    return handle


def means_of(action: str, content: RecordDict, dataset: Dataset) -> tuple[float, ...] | None:
    """Return the means that a message holds for missing cells; ``None`` if it asks for them."""
    if action == MOMENTS and MomentsRequest.from_content(content).cells:
        return None
    means = LearningTerms.from_content(content).imputed
    count = 0 if dataset.incomplete is None else len(dataset.incomplete.names)
    if len(means) != count:
        raise ProtocolError(
            f"a message must hold the means of this hospital's {count} columns with missing: mean, "
            f"got {len(means)}"
        )
    return means


def _completed(hospital: HospitalData, means: Sequence[float]) -> HospitalData:
    """Return the hospital with its missing cells filled in."""
    if (waiting := hospital.dataset.incomplete) is None:
        return hospital

    def filled(dataset: Dataset) -> Dataset:
        try:
            return dataset.completed(means)
        except DataError as error:  # of what depends on the cells
            raise PrivateReasonError(str(error)) from None

    def held_out() -> Dataset | None:
        test = hospital.held_out()
        return None if test is None else filled(test)

    imputed = dict(zip(waiting.names, means, strict=True))
    return replace(hospital, dataset=filled(hospital.dataset), held_out=held_out, imputed=imputed)


def _sum_up(content: RecordDict, hospital: HospitalData) -> RecordDict:
    request = MomentsRequest.from_content(content)
    dataset = hospital.dataset
    if hospital.clipping is None:
        arrays = moment_sums(dataset, request, hospital.limbs)
    else:
        arrays = range_moments(dataset, request, hospital.clipping)
    return update_content(arrays, MetricRecord({NUM_EXAMPLES: dataset.examples}))


def _train(content: RecordDict, hospital: HospitalData) -> RecordDict:
    dataset, terms = _prepared(hospital.dataset, content, clipping=hospital.clipping)
    examples = _examples(dataset, terms, _model_for(dataset, content))
    if hospital.clipping is None:
        gradient, metrics = plain_gradient(examples, terms), _metrics(examples)
    else:
        gradient = clipped_gradient(examples, terms, hospital.clipping)
        metrics = MetricRecord({NUM_EXAMPLES: dataset.examples})
    arrays = model_arrays(*parameters.split(gradient, len(dataset.feature_names)))
    if terms.hessian:
        arrays = derivative_arrays(examples, terms, hospital.limbs, dataset, hospital.min_cell)
    return update_content(arrays, metrics)


def _evaluate(content: RecordDict, hospital: HospitalData) -> RecordDict:
    dataset, terms = _prepared(hospital.dataset, content)
    return update_content(None, _metrics(_examples(dataset, terms, _model_for(dataset, content))))


def _count(content: RecordDict, hospital: HospitalData) -> RecordDict:
    own = hospital.held_out()
    if own is None:  # without it the sum would be of other hospitals than those of training
        _model_for(hospital.dataset, content)
        nobody = counts_of_nobody(hospital.dataset, hospital.limbs)
        return update_content(nobody, MetricRecord({NUM_EXAMPLES: 0}))
    test, _ = _prepared(own, content, reference=hospital.dataset)
    with _far_off():
        arrays, found = held_out_counts(test, _model_for(test, content), hospital.limbs)
    if hospital.model_path is not None:
        own_figures = json.dumps(asdict(found), indent=2)
        _keep(figures_path(hospital.model_path), f"{own_figures}\n")
    return update_content(arrays, MetricRecord({NUM_EXAMPLES: test.examples}))


def _finish(content: RecordDict, hospital: HospitalData) -> RecordDict:
    dataset = hospital.dataset
    terms, scaling = _units(dataset, content)
    theta, own, family = _model_for(dataset, content), True, _family(dataset, terms)
    if terms.site_intercepts:
        found = own_intercepts.with_own_intercept(_prepared(dataset, content)[0], theta, family)
        theta, own = (theta, False) if found is None else (found, True)
        if not own:
            _logger.warning("%s: %s", hospital.name, NO_INTERCEPT)
    if hospital.model_path is not None:
        model = model_of(
            theta,
            dataset.feature_names,
            scaling,
            dataset.positive,
            dataset.classes,
            family=family,
            training=terms.training,
            class_weights=terms.class_weights,
            method=terms.method,
            schema=dataset.schema,
            has_intercept=own,
            exposure=dataset.exposure_name,
        )
        _keep(hospital.model_path, replace(model, imputed=hospital.imputed).to_json())
    return RecordDict()


def figures_path(model_path: Path) -> Path:
    """Return where the figures of a hospital's own held-out patients are saved."""
    return model_path.with_suffix(".figures.json")


def _keep(path: Path, text: str) -> None:
    """Write a result in no other's place; the same result may come again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    try:
        write_new(path, content)
    except FileExistsError:
        if path.read_bytes() != content:
            raise ProtocolError(OTHER_RESULT) from None


def zero_model(dataset: Dataset) -> ArrayRecord:
    """Return the model from which training on such data starts."""
    features, classes = len(dataset.feature_names), dataset.class_count
    zeros = family_of(dataset).zeros(features, classes)
    return model_arrays(*parameters.split(zeros, features))


def _prepared(
    dataset: Dataset,
    content: RecordDict,
    reference: Dataset | None = None,
    clipping: Clipping | None = None,
) -> tuple[Dataset, LearningTerms]:
    """Return the dataset in the units of the model, and the terms.

    Local units are those of the reference, or of the dataset itself. Under privacy numbers that
    overflow are no reason to refuse, since that would tell of a patient: clipping drops them.
    """
    terms, scaling = _units(reference or dataset, content)
    if terms.scaling == "none" and not terms.mean:
        return dataset, terms
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = scaling.apply(dataset.features)
    if clipping is None and not np.isfinite(scaled).all():
        error = too_large(dataset.feature_names, ~np.isfinite(scaled), dataset.rows)
        raise PrivateReasonError(f"once they are scaled, {error}")
    return replace(dataset, features=scaled), terms


def _units(dataset: Dataset, content: RecordDict) -> tuple[LearningTerms, Scaling]:
    """Return a message's terms, and the units that they say; only local ones depend on data."""
    terms = LearningTerms.from_content(content)
    if terms.scaling == "local":
        return terms, standardise(dataset)[1]
    features = len(dataset.feature_names)
    if terms.scaling == "none" and not terms.mean:
        return terms, Scaling.none(features)
    if not len(terms.mean) == len(terms.scale) == features or min(terms.scale) <= 0:
        raise ProtocolError(
            f"mean and scale must be of this hospital's {features} features, scale above 0, "
            f"got {len(terms.mean)} and {len(terms.scale)}"
        )
    return terms, Scaling(np.array(terms.mean), np.array(terms.scale))


def _model_for(dataset: Dataset, content: RecordDict) -> NDArray[np.float64]:
    coefficients, intercepts = read_parameters(read_arrays(content))
    features, classes = len(dataset.feature_names), dataset.class_count
    if coefficients.shape[1] != features:
        raise ProtocolError(
            f"a model must have one coefficient for each of this hospital's {features} features, "
            f"got {coefficients.shape[1]}"
        )
    if len(coefficients) != family_of(dataset).rows(classes):
        raise ProtocolError(
            f"a model must be of this hospital's {classes} classes, "
            f"got coefficients for {len(coefficients)}"
        )
    return parameters.join(coefficients, intercepts)


def _derivatives_of_models(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return the derivatives at each model of a message."""
    dataset, terms = _prepared(hospital.dataset, content)
    models = read_models(content, parameters_of(dataset))
    own = derivative_limbs(hospital.limbs, terms, dataset)
    sums = [derivative_parts(_examples(dataset, terms, theta), dataset, own) for theta in models]
    return _digits(DERIVATIVES, sums, hospital, terms)


def _sides_of_model(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return the numbers of examples against the message's model, and on it."""
    dataset, terms = _prepared(hospital.dataset, content)
    dataset = replace(dataset, exposure=None)  # a direction is no model of means
    candidate = _model_for(dataset, content)
    with _far_off():
        if terms.site_intercepts:
            counts = own_intercepts.sides(dataset, candidate)
        else:
            counts = separation.sides(_examples(dataset, terms, candidate), candidate)
    metrics = MetricRecord({NUM_EXAMPLES: dataset.examples})
    arrays = named_arrays(sides=counts / dataset.examples)
    return update_content(arrays, metrics)


def _compare(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return what the hospital adds to a comparison of the hospitals at the message's model."""
    dataset, terms = _prepared(hospital.dataset, content)
    arrays = site_arrays(dataset, _model_for(dataset, content), terms, hospital.limbs)
    return update_content(arrays, MetricRecord({NUM_EXAMPLES: dataset.examples}))


def _adjustments_of_models(content: RecordDict, hospital: HospitalData) -> RecordDict:
    """Return the derivatives of Firth's penalty at each model of a message."""
    dataset, terms = _prepared(hospital.dataset, content)
    if dataset.class_count != 2:
        raise ProtocolError(f"Firth's penalty must be of two classes, got {dataset.class_count}")
    models = read_models(content, parameters_of(dataset))
    roots = read_roots(content, models)
    own = derivative_limbs(hospital.limbs, terms, dataset)
    sums = [
        adjustment_sums(_examples(dataset, terms, theta), root, dataset, own)
        for theta, root in zip(models, roots, strict=True)
    ]
    return _digits(ADJUSTMENTS, sums, hospital, terms)


def _digits(
    name: str,
    sums: Sequence[NDArray[np.float64]],
    hospital: HospitalData,
    terms: LearningTerms,
) -> RecordDict:
    """Return the reply of sums at several models, digits by models by values."""
    limbs, examples = hospital.limbs, hospital.dataset.examples
    own = derivative_limbs(limbs, terms, hospital.dataset)
    digits = own.split(*np.atleast_2d(np.concatenate(sums, axis=-1))).reshape(
        own.count, len(sums), -1
    )
    metrics = MetricRecord({NUM_EXAMPLES: examples})
    return update_content(named_arrays(**{name: digits / examples}), metrics)


def _examples(
    dataset: Dataset, terms: LearningTerms, theta: NDArray[np.float64]
) -> likelihood.Examples:
    weights = np.array(terms.class_weights) if terms.class_weights else None
    if weights is not None and (len(weights) != dataset.class_count or not (weights > 0).all()):
        raise ProtocolError(
            f"class weights must be {dataset.class_count} numbers greater than 0, "
            f"got {len(weights)} of which {int(np.count_nonzero(weights > 0))} are"
        )
    with _far_off():
        if terms.site_intercepts:
            return own_intercepts.profiled(dataset, theta, _family(dataset, terms))
        return likelihood.examples_of(dataset, theta, weights, _family(dataset, terms))


def _family(dataset: Dataset, terms: LearningTerms) -> Family:
    """Return the family of the dataset's models, with the alpha that a message tells."""
    with refused_as("a message:"):
        return told_alpha(family_of(dataset), terms.overdispersion)


def _far_off() -> np.errstate:
    """Ignore that numbers overflow: whoever chooses model and scale may make them."""
    return np.errstate(over="ignore", invalid="ignore")


def _metrics(examples: likelihood.Examples) -> MetricRecord:
    """Return loss and accuracy; of an outcome that is a number neither, as it may be too large."""
    if not len(examples.hits):
        return MetricRecord({NUM_EXAMPLES: len(examples.losses)})
    with np.errstate(over="ignore"):
        loss = float(np.mean(examples.losses))
    return MetricRecord(
        {
            LOSS: loss,
            ACCURACY: float(np.mean(examples.hits)),
            NUM_EXAMPLES: len(examples.losses),
        }
    )


#: Hospitals' answers, by action.
ANSWERS: dict[str, _Answer] = {
    MOMENTS: _sum_up,
    MessageType.TRAIN: _train,
    PROFILE: _derivatives_of_models,
    FIRTH: _adjustments_of_models,
    SEPARATION: _sides_of_model,
    SITES: _compare,
    MessageType.EVALUATE: _evaluate,
    FIGURES: _count,
    FINISH: _finish,
}
