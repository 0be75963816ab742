"""Tables of a finished run for the terminal, and the rows that the page shows too.

Start with ``comparison``, the final table: `COLUMNS` declares its columns once, for the terminal
and the page.

fitted        let a table fit a narrow terminal without cutting a figure
comparison    the federated model next to each hospital alone and the pooled data
sites         the federated model at each site of a rehearsal
hazards       tests of proportional hazards
between       how the hospitals' own estimates differ, and robust standard errors
coefficients  estimates with standard errors and odds ratios
diagnostics   constant and aliased columns, separated classes, identifiers
cost          seconds and bytes of the encrypted sums, and of the run around them
privacy       the promise to patients, point by point
table1        descriptive statistics, for the terminal and as CSV and Markdown
capc          answers to querying parties, and the cost of each step
sweep         several runs: settings that differ, and results
"""
