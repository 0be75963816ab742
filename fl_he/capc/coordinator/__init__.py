"""The coordinator's side of CaPC: it carries parts from node to node and opens none of them.

Start with ``rounds``: its loop asks for the steps of the protocol's table one after another, each
of all nodes for which a part is waiting. In a simulation the coordinator also sums the votes; on
deployed nodes the votes go from party to party in envelopes. Nothing here imports a private key.

roster  who takes part, and one step of them: messages out, replies in, and what it has cost
rounds  all steps of a batch: which step is due, and which parts wait for it
"""
