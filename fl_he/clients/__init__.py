"""The client's side of fl-he; modules in the order in which they import each other.

``node`` (who this node is), ``refusal`` (errors that may leave a node), ``encryption`` (the mod
that encrypts), ``key_holder`` (company X), ``hospital`` (plain logistic learning).
"""
