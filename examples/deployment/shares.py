"""Write the hospitals' shares of a simulation as CSV files.

``python shares.py "CONFIGURATION" FILE...`` writes one file for each hospital of the simulation
that ``fl-he run CONFIGURATION`` would run: its rows in the table's units, and its labels in the
column ``label``. Numbers have 17 digits, so they are read back as the same float64.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from fl_he.config.composition import compose
from fl_he.experiment.data import simulated_data

config = compose("config", sys.argv[1].split())
for hospital, file in zip(simulated_data(config).hospitals, sys.argv[2:], strict=True):
    with Path(file).open("x", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow([*hospital.feature_names, "label"])
        for features, label in zip(hospital.features, hospital.labels, strict=True):
            writer.writerow([*(f"{value:.17g}" for value in features), f"{label:.0f}"])
