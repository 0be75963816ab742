"""Everything that travels between nodes: messages, models and updates in Flower's records.

Start with ``records``: a message is a dataclass there, and declares each field once with its type
and limits. ``encrypted_sum`` has the messages of an ordinary run, ``sealed_messages`` those of a
sealed chain.

records            base of all messages, read strictly from hostile records
events             events of a run, told to whoever follows it
arrays             numpy arrays from nodes that need not be trusted
encrypted_sum      messages of the encrypted sum, and its actions
pairing            exchange of the seeds of pairwise masks
permission         question to company X whether a sum may be opened
sealed_messages    messages of a sealed chain, and news of totals, sealed or in the open
totals             totals as everybody who computes a model is told them
run_key            company X's key of a session, as its identity signs it
learning_terms     terms of learning and of privacy that travel with a model
table              messages of a table of descriptive statistics
study_plan         what may be computed, a file that everybody has
model              models, derivatives and named sums as records
training_messages  questions of a training to hospitals, and its totals
selection          choice of the arrays that are encrypted, by name and type
update_layout      layout of an update's vector, and the way back to a reply
occasions          digest of a question to hospitals, and the purpose of its sum
planned_messages   choice of the coordinator under a plan, and the check of a message
update             one hospital's update as a flat vector
"""
