"""metrics.json: its contract, and how it is read and written."""

from fl_he.metrics_file.contract import (
    CAPC,
    FIGURES,
    INFERENCE,
    STEPS,
    VERSION,
    MetricsError,
    check_metrics,
)
from fl_he.metrics_file.files import NAME, read_metrics, replace_file, run_folders, write_metrics

__all__ = [
    "CAPC",
    "FIGURES",
    "INFERENCE",
    "NAME",
    "STEPS",
    "VERSION",
    "MetricsError",
    "check_metrics",
    "read_metrics",
    "replace_file",
    "run_folders",
    "write_metrics",
]
