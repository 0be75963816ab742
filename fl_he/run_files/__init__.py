"""Files of a run that are read again: metrics.json and checkpoint.json.

``metrics_contract`` says what metrics.json must hold, so that all that passes can be shown; the
page and the tables are in ``fl_he.report``.

metrics_contract  members and types of metrics.json, version 1
metrics           write and read metrics.json; the run folders in a folder
convergence       warnings where training diverged, or ended before it converged
checkpoint        what a coordinator that died needs to continue
"""
