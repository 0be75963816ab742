"""The coordinator's side of a sealed chain: it routes envelopes that it cannot open.

``router`` has the round; the others hold its state.

progress  where a sealed chain stands, and what a resumed one needs
members   who takes part, who was skipped and who came back
router    one round: envelopes from hospital to hospital to company X and back
"""
