"""One run on the coordinator: its rounds, its state, its files, and the simulation of its nodes.

Start with ``run``, the loop that every kind of run goes through; ``open_run`` and ``sealed_run``
are two kinds, and CaPC has a third in its own room. Whoever follows a run is told the events of
``fl_he.wire.events``. ``jobs`` is Hydra's way to one run or to each of a sweep.

data               a simulation's table, split and divided among the hospitals
declared_ranges    public ranges of features, and the scaling that follows from them
privacy_statement  the promise of differential privacy, in words and figures
comparison         each hospital alone and the pooled data, where they are known
run_figures        figures that every kind of run writes to metrics.json
run_folder         refuse a folder that holds another run; give back an empty one
jobs               Hydra's jobs: one run, or each of a sweep
tracking           figures for MLflow and TensorBoard
run                the loop: rounds, events, who is told
run_state          the checkpoint of a run at work, and what follows from it
open_run           training with totals that the coordinator sees
sealed_run         training over a sealed chain
local_grid         simulated nodes in this process, one after another
simulated_node     what a simulated node is, has and insists on
"""
