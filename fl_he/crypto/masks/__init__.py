"""Masked vectors: fixed-point integers plus a key stream, for vectors that are long.

Castelluccia, Mykletun, Tsudik, "Efficient aggregation of encrypted data in wireless sensor
networks", MobiQuitous 2005. Parties and trust are the same as with Paillier; ``masked_vector`` says
why.

masked_vector      mask, add, bytes with their header, validation, unmask
"""
