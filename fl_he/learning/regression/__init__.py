"""Families of models, and what hospitals and coordinator do with a model of any family.

Start with ``family``, the interface of a family, and ``logistic``, the simplest one; ``registry``
lists the families, and ``glm`` is the interface of those whose outcome is a number. ``likelihood``
is what a hospital computes in each round, ``evaluation`` and ``inference`` what is said about the
final model, ``disclosure`` how much of it.

parameters         a model's parameters as one vector
trained            a trained model and its JSON file
family             interface of a family of models
logistic           logistic regression: two classes
softmax            softmax regression: more than two classes
glm                generalised linear models: the outcome is a number
gaussian           linear regression
poisson            counts
negative_binomial  counts that vary more, whose dispersion is estimated
gamma              positive numbers, with a logarithmic link
cox                times to an event, stratified by hospital
registry           the families, and the family of a dataset, of a name or of a file
products           products of matrices with more digits than float64 has
likelihood         loss, gradient and Hessian on one hospital's examples
outcome_bounds     declared bounds of a number, and gradients in public units
dependencies       constant and aliased columns, from the first round's information
separation         classes that a model separates: a candidate, and its proof by counts
own_intercepts     an intercept for each site, which the likelihood takes out
firth              Firth's penalty, on one hospital's examples and of the total
evaluation         how well a model predicts, from counts
disclosure         figures of an evaluation without small cells
calibration        expected and observed outcomes that are numbers, without small cells
inference          standard errors, intervals, ratios
hazards            score tests of proportional hazards, from sums over events
glm_fit            deviance, dispersion and tests of a model of a number
sklearn_export     a trained model as scikit-learn's own
baselines          scikit-learn models and figures to compare with
validation         a model on rows whose outcomes their owner knows
"""
