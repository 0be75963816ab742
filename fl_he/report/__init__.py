"""What a run shows: tables for the terminal, plots, and one page for the browser.

Everything here is made from metrics.json alone, so that a finished run can be shown again.
"""
