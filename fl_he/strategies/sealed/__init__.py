"""The coordinator's side of a sealed chain: it routes envelopes that it cannot open.

``router`` has the round; ``progress`` holds its state.

progress  where a sealed chain stands, and what a resumed one needs
router    who takes part, and one round: envelopes from hospital to hospital to company X and back
"""
