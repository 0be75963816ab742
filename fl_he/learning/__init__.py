"""Plain learning, without Flower and without encryption.

Modules, in the order in which they import each other:

- ``errors``: the exceptions of this layer
- ``arrays``: validated, read-only float64 arrays
- ``table``: cells of CSV and Parquet files as numbers and labels
- ``data``: datasets, where they come from, and their schema
- ``scaling``: standardisation of features
- ``partition``: the test set, and the hospitals of a simulation
- ``logistic``: loss, gradient and prediction of logistic regression
- ``descent``: a step of gradient descent
- ``model``: a trained model and its JSON file
- ``discrete_gaussian``: exact samples of noise
- ``accounting``: what noise is worth as epsilon and delta
- ``gnmax``: what CaPC's noisy votes cost
- ``privacy``: clipped gradients, noise shares and what they are worth
- ``feature_ranges``: between what the values of features are, by public knowledge
- ``private_scaling``: mean and variance under differential privacy, from public ranges
- ``baselines``: scikit-learn models and figures to compare with

scikit-learn, polars, scipy and dp-accounting are imported only inside the functions that need
them: a deployed client starts a new process for every message, and most messages need none of
them.
"""
