"""Finished runs: tables for the terminal, one page for the browser, and comparison.png.

Everything here is made from metrics.json alone, so that a finished run can be shown again. Start
with ``tables``: ``comparison`` declares the columns of the final table, which the terminal and the
page both show. ``page`` turns a run into a page, and ``files`` writes the page.

csv_text  CSV whose cells are no formulas
figures  figures and settings as text
blocks   parts of a page: rows, tables, facts, notes, plots
tables   rows and columns, and the terminal's tables
thresholds  a model of two classes at the borders of bins
plots    comparison.png, and the curves that it shares with the page
page     the pages of a training run, of CaPC and of several runs
files    report.html, comparison.png and comparison.html in a run's folder
"""
