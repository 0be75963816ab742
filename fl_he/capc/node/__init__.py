"""A node's side of CaPC: what the querying party, answering parties and the guardian compute.

Start with ``app``, which checks that a step is this node's and in its place and calls the step's
function. The functions are in ``querying``, ``answering`` and ``guardian``, in the order of the
protocol; ``party`` has what they work with. ``envelopes`` and ``deployed`` are for deployed nodes
alone.

keys        Paillier and DGK keys of the querying party and of the guardian
vote_pairs  seeds of pairwise masks, by which no votes but the sum of all can be opened
party       one step at one node: the node's own part, its memory of the batch, the request
querying    the querying party's steps
answering   the answering parties' steps
guardian    the privacy guardian's steps
envelopes   parts sealed for the node that takes them
deployed    a deployed node's agreement, keys, model, cases and ledger
app         the part of a node's app that takes CaPC's steps
"""
