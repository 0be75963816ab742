"""Plain learning, without Flower and without encryption.

Modules, in the order in which they import each other:

errors             what this layer raises
arrays             validated, read-only float64 arrays
table_file         CSV and Parquet files as tables of named columns
table              cells of a table as numbers and labels
data               datasets, where they come from, and their schema
scaling            standardisation of features
moments            sums over examples, as exact as float64
partition          the test set, and the hospitals of a simulation
parameters         a model's parameters as one vector
logistic           loss, gradient and prediction of logistic regression
softmax            the same for more than two classes
likelihood         what one hospital computes of a model
evaluation         how well a model predicts, from counts
descent            a step of gradient descent
optimizers         how the next model follows from a round
damped             steps that are halved while the loss would rise
optimizer_choice   the optimizer that a name stands for
model              a trained logistic model and its JSON file
softmax_model      a trained softmax model and its JSON file
inference          standard errors, intervals, odds ratios
prediction         a saved model's predictions for a table
sklearn_export     a trained model as scikit-learn's own
baselines          scikit-learn models and figures to compare with
discrete_gaussian  exact samples of noise
accounting         what noise is worth as epsilon and delta
privacy            clipped gradients, noise shares and what they are worth
feature_ranges     between what the values of features are, by public knowledge
private_scaling    mean and variance under differential privacy, from public ranges
gnmax              what CaPC's noisy votes cost
noisy_vote         the noisy vote on counts that one party sees
answering          what an answering party can evaluate under encryption
layers             layers of convolutional networks as linear maps
integer_model      models and queries in fixed point
feature_map        the public map that queries are asked on
estimators         answering models out of fitted scikit-learn classifiers
party_models       the kinds of models that a simulated party can have
model_file         a party's own fitted classifier out of a file
case_files         a querying party's cases and labels
query_selection    which unlabelled cases it asks about
class_accuracy     how good a classifier of several classes is

scikit-learn, polars, scipy and dp-accounting are imported only inside the functions that need
them: a deployed client starts a new process for every message, and most messages need none of
them.
"""
