"""Computations of CaPC's parties: models that answer under encryption, votes, their cost.

Start with ``answering``, the form of a model that can be evaluated under encryption;
``estimators``, ``layers``, ``sequential`` and ``model_file`` bring models into that form, and
``integer_model`` rounds them. ``gnmax`` says what the noisy votes cost, ``noisy_vote`` draws their
noise.

answering        layers that can be evaluated under encryption
feature_map      public map that queries are asked on
estimators       answering models out of fitted scikit-learn classifiers
layers           convolutional networks as linear maps
sequential       networks out of trained PyTorch modules
integer_model    models and queries in fixed point
party_models     kinds of models that a simulated party can have
model_file       a party's own fitted classifier out of a file
case_files       a querying party's cases and labels
vote_files       parties' votes or logits in files
query_selection  unlabelled cases that a querying party asks about
gnmax            privacy cost of noisy votes
noisy_vote       noise on votes, and the noisy vote on counts that one party sees
many_labels      votes for several labels of a case
"""
