"""The trained model compared with others: many in a simulation, none in a deployment.

Only a simulation has a test set, single hospitals' data and the pooled data. In a deployment
nobody holds any of them, and the figures are null in metrics.json; so are the figures on a test set
in a simulation that holds none out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.config.run import ClassWeight, Config, Penalty
from fl_he.config.run import Scaling as ScalingChoice
from fl_he.experiment.data import SimulatedData
from fl_he.experiment.tables import joined
from fl_he.learning.optimizers import scoring
from fl_he.learning.optimizers.task import Task
from fl_he.learning.optimizers.training import TRAIN, Training
from fl_he.learning.privacy.gradients import clipped_sum
from fl_he.learning.regression import glm_fit, likelihood, parameters
from fl_he.learning.regression.baselines import DEFAULT_C, figures, fit, fit_pooled, site_figures
from fl_he.learning.regression.cox import concordance
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.negative_binomial import told_alpha
from fl_he.learning.regression.outcome_bounds import bounded_gradients
from fl_he.learning.regression.own_intercepts import informs, with_own_intercept
from fl_he.learning.regression.registry import class_probabilities, family_of, margins_of
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling, standardise
from fl_he.run_files.metrics_contract import (
    CONCORDANCE,
    FIGURES,
    NEGATIVE_BINOMIAL,
    SITE_FIGURES,
    SURVIVAL,
)

#: Size of a column of a site, whose coefficient the L2 penalty all but spares.
_UNPENALISED = 1e4
#: A model's parameters, as fl_he.learning.regression.parameters lays them out.
Parameters = NDArray[np.float64]


class Comparison:
    """Compare on a simulation's test set with each hospital alone and with the pooled data.

    Parameters
    ----------
    config : Config
    raw : SimulatedData or None
        None in a deployment.
    scaling : Scaling
        From the tables' units to those of the model.
    """

    def __init__(self, config: Config, raw: SimulatedData | None, scaling: Scaling) -> None:
        self._config = config
        self._balanced = config.class_weight is ClassWeight.balanced
        self._data: SimulatedData | None = None
        self._test: Dataset | None = None
        if raw is None:
            return

        def scaled(dataset: Dataset) -> Dataset:
            if config.scaling is ScalingChoice.local:
                return standardise(dataset)[0]
            return replace(dataset, features=scaling.apply(dataset.features))

        hospitals = tuple(map(scaled, raw.hospitals))
        train = joined(hospitals)
        # With local scaling, as a hospital does to which the model is new.
        self._test = None if raw.held_out is None else scaled(raw.held_out)
        self._data = replace(raw, hospitals=hospitals, train=train, held_out=self._test)

    def after_round(self, model: Parameters, told: Sequence[float] = ()) -> dict[str, float]:
        """Return the test figures of a round in metrics.json, as far as they are known.

        ``told``: of alpha, see `fl_he.learning.regression.negative_binomial.told_alpha`.
        """
        if self._test is None:
            return {}
        family = told_alpha(family_of(self._test), told)
        examples = likelihood.examples_of(self._test, model, family=family)
        if isinstance(family, GlmFamily):
            if self._of_time(self._test):
                return {}
            reference = family.reference(self._test.labels)
            return {"test_loss": float(np.mean(examples.losses - reference))}
        return {
            "test_loss": float(np.mean(examples.losses)),
            "test_accuracy": float(np.mean(examples.hits)),
        }

    def at_the_end(
        self,
        model: Parameters,
        features: int,
        examples: int,
        *,
        overdispersion: Sequence[float] = (),
        left_out: Container[str] = (),
        separated: bool = False,
    ) -> dict[str, Any]:
        """Return members of metrics.json that a simulation knows, and ``federated``.

        These are ``local``, ``pooled``, ``rows``, ``tested_on``, ``class_shares`` and ``sites``.

        Parameters
        ----------
        model : ndarray
            The trained one, of this many features.
        features : int
        examples : int
            How many it was trained on, from the opened total.
        overdispersion : sequence of float
            Of alpha: see `fl_he.learning.regression.negative_binomial.told_alpha`.
        left_out : container of str
            Names of features without a coefficient, which the pooled fit has not either.
        separated : bool
            Whether there is no finite optimum, so that no two fits have to agree.
        """
        local, pooled, C = None, None, self._config.C
        # scikit-learn's advice is for its own settings; the figures tell how far apart fits are.
        with warnings.catch_warnings(action="ignore"):
            fits = self._data is not None and self._has_rival(self._data.train)
            if fits and self._data is not None and self._test is not None:
                local = [
                    {
                        "hospital": name,
                        "examples": hospital.examples,
                        **self._figures(fit(hospital, C, balanced=self._balanced)),
                    }
                    for name, hospital in zip(self._data.names, self._data.hospitals, strict=True)
                ]
            if fits and self._data is not None:
                train = self._data.train
                fitted, used = self._fit_pooled(train, left_out)
                difference = None
                if used == C and not separated:
                    difference = float(np.max(np.abs(fitted - model)))
                pooled = {
                    **self._entry(fitted, features, train.examples),
                    "C": used,
                    "largest_difference": difference,
                }
        return {
            "local": local,
            "federated": self._entry(model, features, examples, overdispersion),
            "pooled": pooled,
            "rows": None if self._data is None else self._data.rows,
            "tested_on": None if self._test is None else self._test.examples,
            "class_shares": self._class_shares(),
            "sites": self._sites(model, overdispersion),
        }

    @staticmethod
    def _of_time(dataset: Dataset) -> bool:
        """Return whether the outcome is a time to an event, and hospitals are strata."""
        return dataset.family in SURVIVAL

    @staticmethod
    def _has_rival(dataset: Dataset) -> bool:
        """Return whether scikit-learn has such models of pooled rows."""
        return dataset.family not in (*SURVIVAL, NEGATIVE_BINOMIAL)

    def _concordance(self, model: Parameters) -> dict[str, float | None]:
        """Return the share of the test set's pairs of patients whose order the model tells.

        Patients are compared within their hospital, or without such shares within the test set.
        """
        if self._data is None or self._test is None:
            return {}
        shares = map(self._data.test_share, range(len(self._data.names)))
        parts = [share for share in shares if share is not None] or [self._test]
        pairs = np.sum(
            [concordance(part.features @ model[:-1], part.labels) for part in parts], axis=0
        )
        return {CONCORDANCE: float(pairs[0] / pairs[1]) if pairs[1] else None}

    def _sites(self, model: Parameters, told: Sequence[float] = ()) -> list[dict[str, Any]] | None:
        """Return the model's figures at each site that files or a column name.

        They are of the rows that the site holds out, and of its training rows in a run without.
        """
        if self._data is None or not self._config.names_sites or self._of_time(self._data.train):
            return None
        entries = []
        for number, name in enumerate(self._data.names):
            held_out = self._data.test_share(number)
            rows = self._data.hospitals[number] if held_out is None else held_out
            own: Parameters | None = model
            if self._config.site_intercepts:
                own = with_own_intercept(rows, model, told_alpha(family_of(rows), told))
            found: dict[str, float] = dict.fromkeys(SITE_FIGURES, math.nan)
            if own is not None:
                found = self._site_figures(rows, own)
            entries.append(
                {
                    "hospital": name,
                    "examples": rows.examples,
                    "held_out": held_out is not None,
                    **{key: found[key] for key in SITE_FIGURES},
                }
            )
        return entries

    def _site_figures(self, rows: Dataset, model: Parameters) -> dict[str, float]:
        if not isinstance(family := family_of(rows), GlmFamily):
            return site_figures(class_probabilities(rows, model), rows.labels)
        means = family.means(margins_of(rows, model))
        in_the_large = {
            "observed": float(np.mean(rows.labels)),
            "predicted": float(np.mean(means)),
        }
        return dict.fromkeys(SITE_FIGURES, math.nan) | in_the_large

    def _class_shares(self) -> dict[str, float | None] | None:
        """Return the figures of a forecast of the classes' shares of the training data.

        Noise, class weights or too many features may leave a model that is worse.
        """
        if self._data is None or self._test is None or self._test.family:
            return None
        train = self._data.train
        counts = np.bincount(train.labels.astype(np.intp), minlength=train.class_count)
        shares = np.tile(counts / train.examples, (self._test.examples, 1))
        return {**figures(shares, self._test.labels)}

    def _fitted(self, train: Dataset) -> tuple[Parameters, float | None]:
        """Return the fit with the run's penalty, or if there is none scikit-learn's, and its C."""
        C = self._config.C
        if self._config.penalty is not Penalty.firth:
            return fit_pooled(train, C, balanced=self._balanced)
        if (fitted := scoring.fitted(train)) is not None:
            return fitted, C
        return fit(train, None), DEFAULT_C

    def without_noise(self, task: Task) -> dict[str, float | None] | None:
        """Return the figures of a task's private steps without their noise, if they are known.

        They are taken on the pooled data, which comes to the same as federated. Gradients are
        clipped: the learning rate is for clipped ones, and may diverge with others.
        """
        clip, bits = self._config.privacy.clip, self._config.crypto.fraction_bits
        if self._data is None or self._test is None or clip is None:
            return None
        train = self._data.train
        scaled = replace(task, scaling="none", mean=(), scale=(), low=(), high=())
        training = Training(replace(scaled, max_step=None, max_coefficient=None))
        for _ in range(self._config.rounds):
            examples = likelihood.examples_of(train, training.theta)
            total = clipped_sum(bounded_gradients(examples, task.outcome_bounds), clip, bits)
            rows, intercepts = parameters.split(
                np.ldexp(total, -bits) / train.examples, task.features
            )
            means = {"coefficients": rows if len(rows) > 1 else rows[0], "intercept": intercepts}
            training.take(TRAIN, means, train.examples)
        return self._figures(training.theta)

    def _fit_pooled(
        self, train: Dataset, left_out: Container[str]
    ) -> tuple[Parameters, float | None]:
        """Fit without the features that are left out, unless all are."""
        names = train.feature_names
        kept = [j for j, name in enumerate(names) if name not in left_out] or [*range(len(names))]
        part = replace(
            train,
            features=train.features[:, kept],
            feature_names=tuple(names[j] for j in kept),
        )
        if self._config.site_intercepts:
            fitted, used = self._fitted(self._with_sites(part))
            return parameters.join(
                _placed(fitted[: len(kept)], kept, len(names)), np.zeros(1)
            ), used
        fitted, used = self._fitted(part)
        places = parameters.row_places(len(fitted) // (len(kept) + 1), len(names))
        whole = np.zeros(places.size)
        whole[np.sort(places[:, [*kept, -1]].ravel())] = fitted
        return whole, used

    def _with_sites(self, train: Dataset) -> Dataset:
        """Return the training rows with a column for each site that has a finite intercept.

        The first such site has none, as the fit has an intercept. Rows of other sites are left out.
        """
        hospitals = () if self._data is None else self._data.hospitals
        informing = [number for number, one in enumerate(hospitals) if informs(one)]
        of_site = np.repeat(np.arange(len(hospitals)), [one.examples for one in hospitals])
        size = 1.0 if self._config.C is None else _UNPENALISED
        columns = size * (of_site[:, None] == np.array(informing[1:], dtype=np.intp))
        named = replace(
            train,
            features=np.column_stack([train.features, columns]),
            feature_names=(*train.feature_names, *(f"hospital {one}" for one in informing[1:])),
        )
        return named.take(np.flatnonzero(np.isin(of_site, informing)))

    def _figures(self, model: Parameters, told: Sequence[float] = ()) -> dict[str, float | None]:
        if self._test is None:
            return dict.fromkeys(FIGURES)
        if isinstance(family := told_alpha(family_of(self._test), told), GlmFamily):
            if self._of_time(self._test):
                return dict.fromkeys(FIGURES) | self._concordance(model)
            return dict.fromkeys(FIGURES) | glm_fit.figures(family, self._test, model)
        return {**figures(class_probabilities(self._test, model), self._test.labels)}

    def _entry(
        self, model: Parameters, features: int, examples: int, told: Sequence[float] = ()
    ) -> dict[str, Any]:
        coefficients, intercepts = parameters.split(model, features)
        binary = len(intercepts) == 1
        return {
            "examples": examples,
            **self._figures(model, told),
            "coefficients": (coefficients[0] if binary else coefficients).tolist(),
            "intercept": self._intercept(intercepts) if binary else intercepts.tolist(),
        }

    def _intercept(self, intercepts: Parameters) -> float | None:
        return None if self._config.site_intercepts else float(intercepts[0])


def _placed(values: Parameters, places: Sequence[int], size: int) -> Parameters:
    whole = np.zeros(size)
    whole[[*places]] = values
    return whole
