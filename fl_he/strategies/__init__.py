"""The server's side of fl-he; modules in the order in which they import each other.

``exchange`` (messages out, replies in), ``grid`` (grids in front of Flower's), ``roster`` (which
nodes take part), ``topologies`` (fold and chain), ``sequential_paillier`` (the wrapper),
``gradient_descent`` (what to do with a gradient).
"""
