"""The verbs of ``fl-he``: one file each, or two that belong together.

Each command imports what it needs when it runs: every call of ``fl-he`` loads this package.

public_file  files that anybody may read: public keys, entries, manifests
run          train over simulated hospitals
report       tables and pages of finished runs
bench        measure what encryption costs
schema       ``schema``: draft a schema from a table; ``check`` a table by it
predict      predict with a saved model, and compare with outcomes
export       save a model for another program
keygen       make a node's Paillier and DGK keys; ``enroll``: make its identity
capc         ``capc votes``: label queries by noisy votes in files
agree        put the agreement of a deployed CaPC together
plan         draft a study plan from a configuration
federation   ``federation``: put the manifest together; ``show`` a public file
ledger       show company X's opened sets; begin an epoch
node         answer a SuperNode's messages with the installed app
status       show a deployed node's federation, sessions and budgets
"""
