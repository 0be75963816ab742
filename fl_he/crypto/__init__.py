"""Cryptography on numbers and bytes; knows neither Flower nor learning.

Start with ``paillier``: one update of a hospital becomes one encrypted vector there. ``comparison``
has CaPC's steps on encrypted numbers, ``envelopes`` what nodes sign and seal for each other. Each
folder lists its files in the order to read them.

errors      refusals and warnings of this room
schemes     names of the schemes of encrypted sums
encoding    canonical bytes, and JSON from others, checked member by member
key_files   files that only their owner may read, with or without a passphrase
envelopes   identities, signed and sealed envelopes, the manifest of a federation
paillier    keys, packing, encrypted vectors
masks       masked vectors: fixed-point integers plus a key stream
tickets     who contributed to a sum, for what, and that nobody changed it
comparison  secure comparison, argmax, ReLU, votes
"""
