"""Masked vectors: fixed-point integers plus a key stream, for vectors that are long.

Castelluccia, Mykletun, Tsudik, "Efficient aggregation of encrypted data in wireless sensor
networks", MobiQuitous 2005. The parties are those of Paillier encryption, and so is who must be
trusted with what; ``masked_vector`` says why.

masked_vector      mask, add, bytes with their header, validation, unmask
"""
