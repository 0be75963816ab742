"""A node's side of totals from which everybody computes the model: sealed, or in the open.

In a sealed chain the coordinator sees envelopes alone. Read `app` first: which messages belong to
which. Then `hospital` and `key_holder`, the two halves of the sealed protocol, `open_chain`, both
halves in the open, `model`, the model that each hospital advances by itself, and `training`, how
the next one of fl-he's own models follows from a total.

Modules, in the order in which they import each other:

payload     contents of the envelopes, and what each envelope is bound to
learner     steps from one total to the next model, and the next question
sessions    which sessions a node takes part in
state       a hospital's progress in one
model       the model that each hospital keeps
training    the learner of fl-he's own models
hospital    the hospital's half
key_holder  company X's half
open_chain  the same chain of totals in the open
app         the part of a node's app that takes part in sealed chains
"""
