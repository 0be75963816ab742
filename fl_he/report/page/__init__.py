"""The page of a run: sections of tables, facts, notes and plots, and one template for all of them.

Start with ``run_page``, the page of a training run; ``fl_he.report.blocks`` has the parts that a
page consists of. Only the template knows HTML, and the template escapes every text.

charts        plots as SVG in the page's own colours
forest        forest plots of coefficients
curves        plots of held-out examples, of one run or of several
evaluated     figures and plots of encrypted counts of held-out examples
visibility    who could see what in a training run
coefficients  the model by the names of its features
rounds        curves round by round, skipped hospitals, and how long nodes took to answer
run_page      the page of a training run
capc_page     the page of a run of CaPC
table_page    the page of a table of descriptive statistics
sweep_page    the page that compares several runs
html          the template
text          a page as Markdown or CSV
"""
