"""Study plans of the tables of `deployed_nodes`."""

from __future__ import annotations

from dataclasses import replace

from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.wire.study_plan import Outcome, StudyPlan

PLAN = StudyPlan(
    family="logistic",
    features=("age", "size"),
    outcome=Outcome("state", "sick", None, ()),
    scaling="none",
    ranges=(),
    class_weights="none",
    penalty="l2",
    C=(1.0, None),
    profile=False,
    optimizers=("newton", "gd"),
    lr=(0.5, 0.25),
    tolerance=1e-6,
    bins=0,
    privacy=None,
    most_rounds=4,
    most_sessions=2,
    max_step=10.0,
    max_coefficient=10.0,
    min_contributors=3,
)
#: Without sums before the first round.
UNPREPARED = replace(PLAN, optimizers=("lbfgs", "gd"))
RANGED = replace(PLAN, scaling="ranges", ranges=((-1.0, 3.0), (-2.0, 2.0)))
PRIVATE = replace(
    RANGED,
    optimizers=("gd",),
    privacy=GaussianPrivacy(1.0, 1e-5, 2.0, 4, 3),
    lr=(5.0,),
)
