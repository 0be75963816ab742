"""A node's identity, settings and possessions: who am I, and what may leave me.

A `Node` is read once for each message, by `NodeApp`, and is either simulated or deployed. Read
`node` first, then the two kinds (`SimulatedNode` in the same file, `deployed`), then `app`.

Modules, in the order in which they import each other:

settings       settings of the node configuration: names, kinds, values, files
enrolment      manifest, identity, pinned key and study plans
described_tables  tables of a hospital that has a schema
value_keys     the value key on its way from company X to hospitals
table_memory   tables with which a hospital's sessions began
row_memory     keyed hashes of the rows of a hospital's tables
form_memory    forms of the replies of an app that declares none
pace           how long an app may take, and when replies leave
node           `Node`, and the simulated kind of it
counters       company X's signed counters of its openings
run_key_check  the check of company X's key of a session
deployed       the deployed kind: its own table, key files, ledgers and terms
outgoing       replies and refusals that may leave a node
study_plans    the check of each message against the node's study plans
app            the app that reads the node and hands messages to the protocols' parts
"""
