"""Descriptive statistics of all hospitals' rows, from one sum of counts and moments.

Start with ``form``, which has the columns and groups of a table. A hospital's ``cells`` are summed
up, and company X gives out ``statistics`` of the total, from which no count below ``min_cell``
can be solved for: ``suppression`` has the rules. Kaplan-Meier curves and log-rank tests are in
``survival``.

form         columns, groups, bins and times of a table
cells        a hospital's counts and sums
suppression  cells that are merged or withheld
survival     Kaplan-Meier estimates and the log-rank test on a grid
statistics   figures of a total
noisy        cells under differential privacy, and their figures
"""
