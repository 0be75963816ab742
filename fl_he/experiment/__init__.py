"""One run on the coordinator: its rounds, its state, its files, and the simulation of its nodes.

Start with ``run``, the loop that every kind of run goes through. ``training_run`` is what two kinds
have in common, ``open_run`` and ``sealed_run``; CaPC has a third in its own room. Whoever follows
a run is told the events of ``fl_he.wire.events``. ``jobs`` is Hydra's way to one run or to each of
a sweep.

tables             the table that a configuration names, or one for each site
data               a simulation's table, split and divided among the hospitals
terms              packing, task, declared ranges and privacy, and the promise that privacy makes
private_settings   rounds, learning rate and clip that a private simulation chooses
plan               a study plan drafted from a configuration, and a run held to one
comparison         each hospital alone and the pooled data, where they are known
diagnostics        columns without a coefficient of their own, and separated classes
inference          coefficients with standard errors and tests, or why they are withheld
profile            profile likelihood intervals, or why bounds were not found
sites              how the hospitals differ, or why that is withheld
run_folder         refuse a folder that holds another run; give back an empty one
jobs               Hydra's jobs: one run, or each of a sweep
tracking           figures for MLflow and TensorBoard
helper             a second process, in which comparisons and figures are made
run                the loop: rounds, events, who is told
training_run       the checkpoint, the entry of a round, and metrics.json of a training
open_run           training with totals that the coordinator sees
table_run          a table of descriptive statistics instead of training
sealed_run         training over a sealed chain
flower_log         Flower's own log, kept to warnings
local_grid         simulated nodes in this process, one after another
children           the end of processes that this one has started
ray_engine         Flower's simulation on Ray, started here or in a cluster
"""
